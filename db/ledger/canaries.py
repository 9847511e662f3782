"""Canaries: small looks at jobs through their real workers, whose predictions are checked and not stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.errors import shortened
from scorebeat.db.connect.sql import Key, KeyColumn, among, ident, texts
from scorebeat.db.predictions.prediction_sets import PredictionSet

_PAGES_FOR_EACH = 20
"""Stored rows that are looked at for each one that is chosen, so that the chosen ones lie apart."""


@dataclass(frozen=True)
class Canary:
    """One look at a job, and what came of it."""

    id: int
    job: str
    queue: str
    sent_at: datetime
    expires_at: datetime
    worker: str | None
    """The worker that took it; None: nobody has yet."""
    finished_at: datetime | None
    model: str | None
    """The version that was looked at, such as `iris/3`."""
    rows: int | None
    """Rows that were scored."""
    compared: int | None
    """Rows of them whose stored prediction was compared."""
    differing: int | None
    """Rows of them with another stored prediction."""
    failure: str | None
    """What is wrong; None after a good one."""


_COLUMNS = "id, job, queue, sent_at, expires_at, worker, finished_at, model, rows, compared, differing, failure"


def is_due(connection: Connection, job: str, every: timedelta) -> bool:
    """Whether for so long no run of the job was opened or ended, and no canary sent; and none is on its way."""
    return bool(
        connection.execute(
            text(
                "SELECT NOT EXISTS (SELECT FROM scorebeat.runs WHERE job = :job AND (finished_at IS NULL"
                " OR greatest(created_at, finished_at) > clock_timestamp() - CAST(:every AS interval)))"
                " AND NOT EXISTS (SELECT FROM scorebeat.canaries WHERE job = :job"
                " AND (finished_at IS NULL OR sent_at > clock_timestamp() - CAST(:every AS interval)))"
            ),
            {"job": job, "every": every},
        ).scalar_one()
    )


def add(connection: Connection, job: str, queue: str, lasts: timedelta) -> int:
    """A canary that must be finished within `lasts`. Returns its number."""
    found: int = connection.execute(
        text(
            "INSERT INTO scorebeat.canaries (job, queue, expires_at)"
            " VALUES (:job, :queue, clock_timestamp() + CAST(:lasts AS interval)) RETURNING id"
        ),
        {"job": job, "queue": queue, "lasts": lasts},
    ).scalar_one()
    return found


def take(connection: Connection, canary_id: int, worker: str) -> Canary | None:
    """The canary, for this worker; None if another one has it, or if it is over."""
    row = connection.execute(
        text(
            "UPDATE scorebeat.canaries SET worker = :worker WHERE id = :id AND worker IS NULL AND finished_at IS NULL"
            f" AND expires_at > clock_timestamp() RETURNING {_COLUMNS}"
        ),
        {"id": canary_id, "worker": worker},
    ).one_or_none()
    return Canary(**row._mapping) if row is not None else None


def finish(connection: Connection, canary_id: int, failure: str | None, **found: Any) -> None:
    """Store what the look found: `model`, `rows`, `compared`, `differing`."""
    connection.execute(
        text(
            "UPDATE scorebeat.canaries SET finished_at = clock_timestamp(), failure = :failure, model = :model,"
            " rows = :rows, compared = :compared, differing = :differing WHERE id = :id AND finished_at IS NULL"
        ),
        {"id": canary_id, "failure": failure and shortened(failure)}
        | dict.fromkeys(("model", "rows", "compared", "differing"))
        | found,
    )


def give_up(connection: Connection) -> None:
    """Finish canaries whose time is over."""
    connection.execute(
        text(
            "UPDATE scorebeat.canaries SET finished_at = clock_timestamp(), failure = CASE WHEN worker IS NULL"
            " THEN 'no worker of queue ' || queue || ' took it in time' ELSE 'worker ' || worker || ' took it and did"
            " not end it in time: its process died, or the model takes too long' END"
            " WHERE finished_at IS NULL AND expires_at <= clock_timestamp()"
        )
    )


def take_unreported(connection: Connection) -> list[Canary]:
    """Finished canaries that nobody has reported yet; the caller does, in this transaction."""
    rows = connection.execute(
        text(
            "UPDATE scorebeat.canaries SET reported_at = clock_timestamp() WHERE id IN (SELECT id"
            " FROM scorebeat.canaries WHERE finished_at IS NOT NULL AND reported_at IS NULL ORDER BY id"
            f" FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}"
        )
    )
    return [Canary(**row._mapping) for row in rows]


def newest(connection: Connection) -> dict[str, Canary]:
    """The newest finished canary of each job."""
    rows = connection.execute(
        text(
            f"SELECT DISTINCT ON (job) {_COLUMNS} FROM scorebeat.canaries WHERE finished_at IS NOT NULL"
            " ORDER BY job, id DESC"
        )
    )
    return {row.job: Canary(**row._mapping) for row in rows}


def stored_keys(connection: Connection, target: PredictionSet, keys: Sequence[KeyColumn], count: int) -> list[Key]:
    """Keys of `count` stored predictions, or of fewer, from places of the table that were chosen at random."""
    rows = max(1.0, float(connection.execute(
        text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)"), {"table": target.table}
    ).scalar_one() or 0))  # fmt: skip
    share = min(100.0, 100.0 * _PAGES_FOR_EACH * count / rows)
    found = connection.exec_driver_sql(
        f"SELECT {texts(keys, 'p')} FROM {target.table} AS p TABLESAMPLE SYSTEM ({share})"
        f" ORDER BY random() LIMIT {count:d}"
    )
    return [tuple(key) for key in found]


def stored_outputs(
    connection: Connection,
    target: PredictionSet,
    keys: Sequence[KeyColumn],
    wanted: Sequence[Key],
    names: Sequence[str],
) -> dict[Key, tuple[Any, ...]]:
    """The stored outputs of these keys, by key; a key without a prediction is missing."""
    outputs = ", ".join(f"p.{ident(name)}" for name in names)
    rows = connection.exec_driver_sql(
        f"SELECT {texts(keys, 'p')}, {outputs} FROM {target.table} AS p WHERE {among(keys, 'p', wanted)}"
    )
    return {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in rows}
