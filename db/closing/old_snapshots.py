"""Snapshots of runs that nobody needs any more: which they are, and dropping them.

A run that is open needs its snapshot. So does one that ended and left rows out, because a requeue reads them from it:
until a newer run of the job and version has stored rows and ended, or `prune` drops it.
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg2.errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.table_names import WORK, snapshot_table
from scorebeat.db.connect.sql import ident


@dataclass(frozen=True)
class SnapshotTable:
    """A table in the schema of the snapshots."""

    name: str
    run_id: int
    attempt: int | None
    """Set while the plan has not made it the run's."""

    def __str__(self) -> str:
        return f"{WORK}.{self.name}"


@dataclass(frozen=True)
class DiskUse:
    """What all snapshots take."""

    tables: int
    size: int
    """Bytes, with indexes."""
    foreign: int
    """Tables that our role may not drop."""


_TABLES = (
    "SELECT c.oid, c.relname AS name, m[1]::bigint AS run_id, nullif(m[3], '')::integer AS attempt,"
    " pg_has_role(c.relowner, 'USAGE') OR pg_has_role(n.nspowner, 'USAGE') AS is_ours"
    f" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = '{WORK}',"
    r" regexp_match(c.relname, '^run_(\d{1,18})(_(\d{1,9}))?$') m WHERE c.relkind = 'r' AND m IS NOT NULL"
)
_CAN_BE_REQUEUED = (
    "(r.state IN ('partial', 'held') OR r.state = 'failed'"
    " AND EXISTS (SELECT FROM scorebeat.batches b WHERE b.run_id = r.id)"
    " AND (r.plan_is_whole OR r.spec ->> 'on_failure' <> 'retry-run'))"
    " AND EXISTS (SELECT FROM scorebeat.prediction_sets s WHERE s.id = r.prediction_set_id AND s.dropped_at IS NULL)"
    " AND EXISTS (SELECT FROM scorebeat.jobs j WHERE j.name = r.job AND j.removed_at IS NULL)"
)
"""A requeue puts back something of run r, if it did not fail in its plan: `producer.requests.requeue`."""
_IS_REPLACED = (
    "EXISTS (SELECT FROM scorebeat.runs w WHERE w.job = r.job AND w.model = r.model"
    " AND w.model_version = r.model_version AND w.id > r.id AND w.snapshot_rows > 0"
    " AND w.state IN ('succeeded', 'partial') AND w.row_limit IS NULL AND w.row_filter IS NULL AND w.row_keys IS NULL)"
)
"""A newer run over all rows has ended. A tick that found nothing replaces none."""
_IS_NEEDED = (
    "CASE WHEN t.attempt IS NOT NULL THEN r.state = 'planning' AND r.plan_attempt = t.attempt"
    f" WHEN r.state IN ('planning', 'running') THEN true ELSE {_CAN_BE_REQUEUED} AND NOT {_IS_REPLACED}"
    " AND coalesce(r.finished_at >= CAST(:cutoff AS timestamptz), true) END"
)
_UNNEEDED = (
    f"SELECT t.name, t.run_id, t.attempt FROM ({_TABLES}) t LEFT JOIN scorebeat.runs r ON r.id = t.run_id"
    f" WHERE t.is_ours AND NOT coalesce({_IS_NEEDED}, false)"
)


def unneeded(connection: Connection, cutoff: datetime | None = None) -> list[SnapshotTable]:
    """Snapshots that our role may drop and nobody needs; with `cutoff` also those of runs that ended before it."""
    rows = connection.execute(text(f"{_UNNEEDED} ORDER BY t.run_id, t.name"), {"cutoff": cutoff})
    return [SnapshotTable(*row) for row in rows]


def drop(connection: Connection, old: SnapshotTable, cutoff: datetime | None = None) -> bool:
    """Drop it if nobody needs it now, in a transaction of its own. False if it is needed, or being read."""
    # a requeue, which may need it, waits for this lock
    lock = text("SELECT FROM scorebeat.runs WHERE id = :run FOR UPDATE SKIP LOCKED")
    is_locked = connection.execute(lock, {"run": old.run_id}).one_or_none() is not None
    known = text("SELECT EXISTS (SELECT FROM scorebeat.runs WHERE id = :run)")
    if not is_locked and connection.execute(known, {"run": old.run_id}).scalar_one():
        return False
    still = text(f"{_UNNEEDED} AND t.name = :name")
    if connection.execute(still, {"cutoff": cutoff, "name": old.name}).one_or_none() is None:
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {WORK}.{ident(old.name)}")
    except DBAPIError as error:
        if isinstance(error.orig, (psycopg2.errors.LockNotAvailable, psycopg2.errors.DependentObjectsStillExist)):
            return False
        raise
    return True


def size_of(connection: Connection, run_id: int) -> int | None:
    """Bytes of the run's snapshot, with its index; None if it has none any more."""
    query = text("SELECT pg_total_relation_size(to_regclass(:table))")
    size: int | None = connection.execute(query, {"table": snapshot_table(run_id)}).scalar_one()
    return size


def disk_use(connection: Connection) -> DiskUse:
    """What the snapshots of all runs take."""
    row = connection.exec_driver_sql(
        "SELECT count(*), coalesce(sum(pg_total_relation_size(t.oid)), 0)::bigint,"
        f" count(*) FILTER (WHERE NOT t.is_ours) FROM ({_TABLES}) t"
    ).one()
    return DiskUse(*row)
