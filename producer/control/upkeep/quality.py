"""Reads each night what really happened, and compares it with the predictions of before."""

from scorebeat.db.ledger.evidence import quality
from scorebeat.producer.context import Producer
from scorebeat.producer.keep_going import count_each


def is_due(p: Producer) -> bool:
    """Whether the truth of a job is to be read."""
    with p.engine.connect() as connection:
        return bool(quality.due(connection))


def run_once(p: Producer) -> int:
    """Read the truth of each job that is due. Returns how many were computed."""
    # control imports this module each second, and what computes loads Arrow
    from scorebeat.producer.requests.measure_quality import measure_if_due  # noqa: PLC0415

    with p.engine.connect() as connection:
        due = quality.due(connection)
    return count_each("quality", due, lambda job: measure_if_due(p, job))
