"""Locks that others hold on tables: how long each process waits for one, and whose lock it is.

A process that many jobs share must not wait long for a table of one of them: it gives up and tries again later.
"""

from sqlalchemy import Connection, text

from scorebeat.core.table_names import SCHEMA

IN_CONTROL = "100ms"
"""For the one process that moves all runs."""
IN_A_WORKER = "500ms"
"""For a process that scores batches of all jobs of its queue."""
IN_A_PLAN = "1s"
"""For a process that plans; there are few of them."""
FOR_A_PERSON = "2s"
"""For a person's command or request, which can be repeated."""
WAITS = "waits for a lock on "
"""The beginning of the errors of batches, and of the reasons of runs, that only wait."""
READ_ONLY = (
    f"SET LOCAL lock_timeout = '{IN_A_WORKER}'; SELECT set_config('transaction_read_only', 'on', true)"
    " WHERE current_setting('transaction_read_only') = 'off'"
)
"""Begins a transaction in which a worker runs a job's query. Returns no row if the session takes no writes at all."""


def wait_at_most(connection: Connection, patience: str) -> None:
    """Until the transaction ends, a statement that waits longer for a lock fails with SQLSTATE 55P03."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{patience}'")


def waits_for(connection: Connection, statement: str) -> str:
    """The lock that `statement` cannot get, as far as PostgreSQL reports it, as `waits for a lock on ...`.

    Tables that the statement names come first; behind a view it may be any table that is locked now.
    """
    held = connection.execute(
        text(
            "SELECT l.relation::regclass::text AS name, c.relname, l.pid, a.usename, a.application_name, l.granted,"
            " extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds FROM pg_locks l"
            " JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND l.pid <> pg_backend_pid()"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND l.mode = ANY (CAST(:modes AS text[])) AND c.relnamespace NOT IN"
            " (SELECT oid FROM pg_namespace WHERE nspname IN (:ledger, 'pg_catalog', 'information_schema'))"
            " ORDER BY l.mode <> 'AccessExclusiveLock', l.granted DESC, seconds DESC NULLS LAST"
        ),
        {"ledger": SCHEMA, "modes": _IN_THE_WAY},
    ).all()
    candidates = [lock for lock in held if lock.relname in statement] or held
    if not candidates:
        return f"{WAITS}a table that somebody else held a moment ago"
    first = candidates[0]
    program = f" ({first.application_name})" if first.application_name else ""
    verb = "holds" if first.granted else "waits for"
    age = f" in a transaction of {first.seconds} s" if first.seconds is not None else ""
    return f"{WAITS}{first.name}, which process {first.pid} of {first.usename}{program} {verb}{age}"


_IN_THE_WAY = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
"""AccessExclusiveLock blocks readers; the others block sessions that store predictions."""
