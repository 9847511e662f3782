"""Canaries: small looks at jobs through their real workers, whose predictions are checked and not stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.errors import shortened
from scorebeat.core.table_names import CHANGED_AT
from scorebeat.core.text.durations import parse_duration
from scorebeat.db.connect.sql import Key, KeyColumn, among, ident, texts
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source.changes import ChangeColumn

LASTS = timedelta(minutes=15)
"""Time that workers have for one: they may be busy with batches of other jobs."""
_PAGES_FOR_EACH = 20
"""Stored rows that are looked at for each one that is chosen, so that the chosen ones lie apart."""


@dataclass(frozen=True)
class Canary:
    """One look at a job, and what came of it."""

    id: int
    job: str
    queue: str
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


_COLUMNS = "id, job, queue, worker, finished_at, model, rows, compared, differing, failure"


@dataclass(frozen=True)
class Watched:
    """A job with a canary, and when its model last scored a row."""

    job: str
    queue: str
    every: timedelta
    is_paused: bool
    is_busy: bool
    """Whether a run of it is open, or a canary on its way."""
    applied_at: datetime
    seen_at: datetime | None
    """When a canary was sent last, or the last run ended that scored rows; None: never."""

    def is_due(self, now: datetime) -> bool:
        """Whether a canary is to be sent."""
        return not (self.is_paused or self.is_busy) and (self.seen_at is None or self.seen_at < now - self.every)

    def overdue(self, now: datetime) -> timedelta:
        """How long a canary should have been sent, and was not: whoever sends them is away."""
        since = max(self.applied_at, self.seen_at or self.applied_at)
        is_waited_for = not (self.is_paused or self.is_busy)
        return max(timedelta(), now - since - self.every) if is_waited_for else timedelta()


HAS_SCORED = (
    # no EXISTS, which PostgreSQL may answer by reading all batches at once
    "coalesce((SELECT true FROM scorebeat.batches s WHERE s.run_id = r.id AND s.rows_scored > 0 LIMIT 1),"
    " (SELECT s.rows_scored > 0 FROM scorebeat.pruned_batches s WHERE s.run_id = r.id), false)"
)
"""SQL condition: run r scored rows, so that its model was looked at. A tick that found nothing to do shows nothing."""
_MOST_RUNS = 10_000
_WATCHED = text(
    "SELECT j.name AS job, j.spec ->> 'queue' AS queue, j.spec -> 'canary' ->> 'every' AS every,"
    " j.paused_at IS NOT NULL AS is_paused, j.applied_at,"
    " EXISTS (SELECT FROM scorebeat.runs r WHERE r.job = j.name AND r.state IN ('planning', 'running'))"
    " OR EXISTS (SELECT FROM scorebeat.canaries c WHERE c.job = j.name AND c.finished_at IS NULL) AS is_busy,"
    # a time ahead is of a clock that went back
    " greatest((SELECT max(c.sent_at) FROM scorebeat.canaries c WHERE c.job = j.name"
    " AND c.sent_at < clock_timestamp() + interval '1 min'),"
    " (SELECT r.finished_at FROM (SELECT id, finished_at FROM scorebeat.runs WHERE job = j.name"
    f" ORDER BY id DESC LIMIT {_MOST_RUNS}) r WHERE r.finished_at < clock_timestamp() + interval '1 min'"
    f" AND {HAS_SCORED} ORDER BY r.id DESC LIMIT 1)) AS seen_at"
    " FROM scorebeat.jobs j WHERE j.removed_at IS NULL AND jsonb_typeof(j.spec -> 'canary') = 'object' ORDER BY j.name"
)


def watched(connection: Connection) -> list[Watched]:
    """The jobs that have a canary, in the order of their names."""
    return [Watched(**{**row._mapping, "every": parse_duration(row.every)}) for row in connection.execute(_WATCHED)]


def add(connection: Connection, job: str, queue: str) -> int:
    """A canary that must be finished within `LASTS`. Returns its number."""
    found: int = connection.execute(
        text(
            "INSERT INTO scorebeat.canaries (job, queue, expires_at)"
            " VALUES (:job, :queue, clock_timestamp() + CAST(:lasts AS interval)) RETURNING id"
        ),
        {"job": job, "queue": queue, "lasts": LASTS},
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
            " WHERE finished_at IS NULL AND (expires_at <= clock_timestamp()"
            # it is further ahead than any was sent: the clock went back
            " OR expires_at > clock_timestamp() + CAST(:longest AS interval))"
        ),
        {"longest": 2 * LASTS},
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
    changes: ChangeColumn | None,
) -> dict[Key, tuple[Any, ...]]:
    """The stored outputs of these keys, by key; a key without a prediction is missing.

    Before them is the stored value of the column that shows changes, as `ChangeColumn.number` has it.
    """
    changed = "NULL" if changes is None else changes.number(f"p.{CHANGED_AT}")
    outputs = ", ".join([changed, *(f"p.{ident(name)}" for name in names)])
    rows = connection.exec_driver_sql(
        f"SELECT {texts(keys, 'p')}, {outputs} FROM {target.table} AS p WHERE {among(keys, 'p', wanted)}"
    )
    return {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in rows}
