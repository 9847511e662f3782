"""Which transactions of the database are open, as far as our role sees: what they write is not visible yet.

A row becomes visible when its transaction commits, perhaps long after the time in its column. No transaction that is
open, or begins later, began before the oldest of these. A reader must ask **before** its snapshot is taken: what the
snapshot does not show was open then, or began later.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

UNREPORTED = timedelta(seconds=2)
"""A session may have begun its transaction this long ago, and not be seen in it yet."""
_READS = 3
"""A statement is reported a little before its transaction: what looks so is read again."""


@dataclass(frozen=True)
class OpenTransactions:
    """What was open at `now`, by the clock of the database."""

    now: datetime
    oldest: datetime
    """When the oldest that is seen began; `now` if none is."""
    hidden: int
    """Sessions whose transactions our role does not see."""
    untracked: tuple[int, ...]
    """Process ids of sessions that do not report when their transaction began."""
    prepared: int
    """Prepared transactions, of which PostgreSQL does not know when they began."""
    role: str

    @property
    def begun_by(self) -> datetime:
        """No transaction that is not visible in a later snapshot began before this, except those of `why_unknown`."""
        return self.oldest - UNREPORTED

    @property
    def why_unknown(self) -> str | None:
        """Which others may be open, and what to do; None if all are seen."""
        if self.prepared:
            return f"{self.prepared} prepared transactions are open, and nobody knows when they began: end them"
        if self.hidden:
            return (
                f"the role {self.role} does not see when {self.hidden} other sessions began their transactions: GRANT "
                f"pg_read_all_stats TO {self.role}, or set lookback"
            )
        if self.untracked:
            return (
                f"the sessions {', '.join(map(str, self.untracked))} do not report when their transactions began, "
                "because track_activities is off, or was when they began: switch it on, or set lookback"
            )
        return None


def read(connection: Connection) -> OpenTransactions:
    """What is open now."""
    for _ in range(_READS):
        # the order of the statements matters: a transaction that is prepared meanwhile is in both
        now, role = connection.execute(text("SELECT clock_timestamp(), quote_ident(current_user)")).one()
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        # autovacuum has no user; a walsender sends what others wrote
        oldest, hidden, untracked, is_beginning = connection.execute(
            text(
                "SELECT min(coalesce(a.xact_start, CASE WHEN a.is_beginning THEN a.query_start END)),"
                " count(*) FILTER (WHERE a.backend_type IS NULL),"
                " coalesce(array_agg(a.pid ORDER BY a.pid) FILTER (WHERE a.state = 'disabled' OR a.is_beginning"
                " OR (a.xact_start IS NULL AND starts_with(a.state, 'idle in transaction'))), '{}'),"
                " coalesce(bool_or(a.is_beginning), false)"
                " FROM (SELECT *, coalesce(xact_start IS NULL AND state = 'active' AND backend_type = 'client backend',"
                " false) AS is_beginning FROM pg_stat_activity) AS a"
                " WHERE a.datname = current_database() AND a.usesysid IS NOT NULL"
                " AND a.pid <> pg_backend_pid() AND a.backend_type IS DISTINCT FROM 'walsender'"
            )
        ).one()
        prepared = connection.execute(
            text("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
        ).scalar_one()
        if not is_beginning:  # no session seems to run a statement outside of a transaction
            break
    return OpenTransactions(now, min(oldest or now, now), hidden, tuple(untracked), prepared, role)
