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


@dataclass(frozen=True)
class OpenTransactions:
    """What was open at `now`, by the clock of the database."""

    now: datetime
    oldest: datetime | None
    """When the oldest began; `now` if none is open, None if it is not seen."""
    hidden: int
    """Sessions whose transactions our role does not see."""
    prepared: int
    """Prepared transactions, of which PostgreSQL does not know when they began."""
    role: str

    @property
    def begun_by(self) -> datetime | None:
        """No transaction that is not visible in a later snapshot began before this; None if it is not known."""
        return None if self.oldest is None or self.prepared else self.oldest - UNREPORTED

    @property
    def why_unknown(self) -> str | None:
        """Why `begun_by` is None, and what to do."""
        if self.prepared:
            return f"{self.prepared} prepared transactions are open, and nobody knows when they began: end them"
        if self.oldest is None:
            return (
                f"the role {self.role} does not see when {self.hidden} other sessions began their transactions: GRANT "
                f"pg_read_all_stats TO {self.role}, or set lookback"
            )
        return None


def read(connection: Connection) -> OpenTransactions:
    """What is open now. The order of the statements matters: a transaction that is prepared meanwhile is in both."""
    now, role = connection.execute(text("SELECT clock_timestamp(), quote_ident(current_user)")).one()
    connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    # autovacuum has no user; a walsender sends what others wrote; a statement may be seen before its transaction is
    oldest, hidden = connection.execute(
        text(
            "SELECT min(coalesce(xact_start, CASE WHEN state = 'active' AND backend_type = 'client backend'"
            " THEN query_start END)), count(*) FILTER (WHERE backend_type IS NULL OR state = 'disabled')"
            " FROM pg_stat_activity WHERE datname = current_database() AND usesysid IS NOT NULL"
            " AND pid <> pg_backend_pid() AND backend_type IS DISTINCT FROM 'walsender'"
        )
    ).one()
    prepared = connection.execute(
        text("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
    ).scalar_one()
    return OpenTransactions(now, None if hidden else min(oldest or now, now), hidden, prepared, role)
