"""Open runs by queue: whether a worker of some queues may still be needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class OpenRun:
    """A run that is planned, or has batches that are not final, or waits to be settled."""

    id: int
    job: str
    state: str


def on(connection: Connection, queues: Sequence[str]) -> list[OpenRun]:
    """The open runs whose batches go, or will go, to one of the queues, the oldest first."""
    found = connection.execute(
        text(
            "SELECT id, job, state FROM scorebeat.runs WHERE state IN ('planning', 'running')"
            " AND spec ->> 'queue' = ANY (:queues) ORDER BY id"
        ),
        {"queues": list(queues)},
    )
    return [OpenRun(row.id, row.job, row.state) for row in found]
