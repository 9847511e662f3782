"""Models that a worker cannot load: what it recorded, and which other worker could score instead."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from scorebeat.db.processes.signs_of_life import SEEN_WITHIN
from scorebeat.db.records import audit

CANNOT, CAN = "model.cannot_load", "model.can_load"
"""The actions that workers record."""
KNOWN_FOR = timedelta(minutes=3)
"""A worker that needs the model again tries within this time, and records the result."""


@dataclass(frozen=True)
class Unloadable:
    """A living worker that cannot load a model version."""

    worker: str
    model: str
    reason: str
    at: datetime
    is_refused: bool
    """Whether it could be loaded, and returned other values than its golden rows have."""

    def __str__(self) -> str:
        return f"worker {self.worker} cannot load model {self.model} and leaves its batches to others: {self.reason}"


def cannot(connection: Connection, worker: str, model: str, reason: str, *, is_refused: bool) -> None:
    """Record that the worker failed to load the model, or refused it because of its golden rows."""
    audit.record(connection, worker, CANNOT, f"worker {worker}", model=model, reason=reason, is_refused=is_refused)


def can(connection: Connection, worker: str, model: str) -> None:
    """Record that the worker, which could not load the model before, has loaded it."""
    audit.record(connection, worker, CAN, f"worker {worker}", model=model)


def known(connection: Connection) -> list[Unloadable]:
    """Models that living workers cannot load, by each worker's last record of the model since it was started."""
    found = connection.execute(
        text(
            "SELECT worker, model, reason, at, is_refused FROM (SELECT DISTINCT ON (w.name, a.details ->> 'model')"
            " w.name AS worker,"
            " a.details ->> 'model' AS model, a.details ->> 'reason' AS reason, a.at, a.action,"
            " coalesce(CAST(a.details ->> 'is_refused' AS boolean), false) AS is_refused FROM scorebeat.workers w"
            " JOIN scorebeat.actions a ON a.subject = 'worker ' || w.name AND a.action IN (:cannot, :can)"
            " AND a.at >= w.started_at AND a.at > clock_timestamp() - CAST(:known_for AS interval)"
            " WHERE w.seen_at > clock_timestamp() - CAST(:seen_within AS interval)"
            " ORDER BY w.name, a.details ->> 'model', a.id DESC) last WHERE action = :cannot ORDER BY worker, model"
        ),
        {"cannot": CANNOT, "can": CAN, "known_for": KNOWN_FOR, "seen_within": SEEN_WITHIN},
    )
    return [Unloadable(*row) for row in found]


def is_for_others(connection: Connection, batch_id: int, worker: str, model: str) -> bool:
    """Whether another living worker serves the batch's queue, and has not recorded that it cannot load the model."""
    serving = connection.execute(
        text(
            "SELECT w.name FROM scorebeat.workers w JOIN scorebeat.batches b ON w.queues ? b.queue"
            " WHERE b.id = :batch AND w.name <> :worker"
            " AND w.seen_at > clock_timestamp() - CAST(:seen_within AS interval)"
        ),
        {"batch": batch_id, "worker": worker, "seen_within": SEEN_WITHIN},
    )
    blind = {one.worker for one in known(connection) if one.model == model}
    return bool({str(name) for (name,) in serving} - blind)
