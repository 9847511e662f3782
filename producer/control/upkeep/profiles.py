"""Profiles of batches are merged while a run is on, so that its end has little left to merge."""

from scorebeat.db.ledger.evidence import profiles
from scorebeat.producer.context import Producer
from scorebeat.producer.keep_going import log_failure


def merge_all(p: Producer) -> int:
    """Merge a piece for each run with many profiles, and what ended runs left. Returns how many runs had any."""
    with p.engine.connect() as connection:
        waiting = profiles.to_merge(connection, profiles.PIECE)
    merged = 0
    for run_id in waiting:
        with log_failure("profiles", run_id), p.engine.begin() as connection:
            merged += profiles.merge_meanwhile(connection, run_id)
    return merged
