"""Migrating a ledger that is in use: one program at a time, with short waits for locks, so that commits go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg2.errors
from alembic import command
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import MigrationFailed, one_line
from scorebeat.core.table_names import SCHEMA
from scorebeat.core.text.durations import format_duration
from scorebeat.db.schema import migrate, revisions
from scorebeat.db.schema.migrations.indexes import CONCURRENTLY

LOCK_TIMEOUT = "500ms"
"""A wait for an exclusive lock blocks all who come later. Below `deadlock_timeout`, so that we give way first."""
PAUSE = timedelta(seconds=2)
"""Pause between two tries, for the commits that waited meanwhile."""
PATIENCE = timedelta(minutes=10)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Upgraded:
    """The ledger's revision before (None if there was none) and now."""

    before: str | None
    now: str | None
    is_newer: bool
    """A newer program migrated it, and it still serves this one."""

    @property
    def changed(self) -> bool:
        return self.before != self.now


@contextmanager
def turn(engine: Engine, report: Report, patience: timedelta = PATIENCE) -> Iterator[Connection]:
    """A session that alone may migrate; it waits for another. Raises MigrationFailed if that takes too long."""
    deadline = time.monotonic() + patience.total_seconds()
    with engine.connect() as connection:
        while not _took_lock(connection):
            if time.monotonic() > deadline:
                raise MigrationFailed(
                    f"another `migrate` has been at work for {format_duration(patience)}; nothing was done. "
                    "Look at it, and run `scorebeat migrate` again."
                )
            report("another `migrate` is at work; waiting for it")
            time.sleep(PAUSE.total_seconds() / 4)
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        connection.commit()
        try:
            yield connection
        finally:
            connection.invalidate()  # its lock and its settings end with the session


def upgrade(connection: Connection, report: Report, patience: timedelta = PATIENCE) -> Upgraded:
    """Bring the ledger to this program's version, each migration in a transaction of its own.

    `connection` is one of `turn`. If somebody holds a lock, it is tried again for as long as `patience`. Raises
    UsageError for a ledger that no longer serves this program, MigrationFailed with the revision of the ledger then.
    """
    before, newer = revisions.revision(connection), revisions.is_newer(connection)
    if before is None:
        migrate.make_schemas(connection)
    connection.commit()
    deadline = time.monotonic() + patience.total_seconds()
    while not newer and not _migrated(connection):
        if time.monotonic() > deadline:
            raise _failed(connection, f"no lock could be taken in {format_duration(patience)}")
        report(f"the ledger is in use: {_holder(connection)}. Commits go on; trying again in {format_duration(PAUSE)}")
        time.sleep(PAUSE.total_seconds())
    now = revisions.revision(connection)
    connection.commit()
    return Upgraded(before, now, newer)


def _migrated(connection: Connection) -> bool:
    """Run all migrations; False if a lock could not be taken, which undid the migration that needed it."""
    config = migrate.config(connection)
    config.attributes[CONCURRENTLY] = True
    try:
        command.upgrade(config, "head")
    except DBAPIError as error:
        connection.rollback()
        if isinstance(error.orig, psycopg2.errors.LockNotAvailable | psycopg2.errors.DeadlockDetected):
            return False
        if isinstance(error.orig, psycopg2.errors.InsufficientPrivilege) or error.connection_invalidated:
            raise
        raise _failed(connection, one_line(error.orig)) from error
    connection.commit()
    return True


def _failed(connection: Connection, why: str) -> MigrationFailed:
    """The error of a migration that failed: it left nothing, and those before it are done."""
    now = revisions.revision(connection) or "none"
    connection.rollback()
    return MigrationFailed(
        f"the migration after revision {now} failed: {why}. What it had done was undone and the ledger is at revision "
        f"{now}; programs that worked with it go on. Run `scorebeat migrate` again when the reason is gone."
    )


def _took_lock(connection: Connection) -> bool:
    """Take the lock in a transaction of its own: an open one would block an index from being made concurrently."""
    taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": migrate.LOCK}).scalar_one()
    connection.commit()
    return bool(taken)


def _holder(connection: Connection) -> str:
    """Who has held a lock on a table of the ledger for longest, as `dbt (PID 4711) has held a lock for 12 s`."""
    found = connection.exec_driver_sql(
        "SELECT coalesce(nullif(a.application_name, ''), 'a session'), a.pid,"
        " extract(epoch FROM clock_timestamp() - a.xact_start)::bigint FROM pg_locks l"
        " JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation"
        f" WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND l.granted AND a.pid <> pg_backend_pid()"
        " ORDER BY a.xact_start LIMIT 1"
    ).one_or_none()
    connection.rollback()
    return "{} (PID {}) has held a lock for {} s".format(*found) if found else "somebody held a lock"
