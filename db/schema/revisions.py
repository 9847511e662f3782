"""The ledger's revision and those that this program knows, read without Alembic because every command needs them."""

from pathlib import Path

from sqlalchemy import Connection, text

from scorebeat.core.errors import UsageError
from scorebeat.core.table_names import SCHEMA

FOLDER = Path(__file__).parent / "migrations"
OUTGROWN = "programs must know a migration after "
"""Begins the comment that a contracting migration leaves on Alembic's table, for older programs to read."""
_COMMENT = f"SELECT obj_description(to_regclass('{SCHEMA}.alembic_version'), 'pg_class')"


def known() -> tuple[str, ...]:
    """The revisions of this program, oldest first; each migration's file begins with its own."""
    return tuple(sorted(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py")))


def newest() -> str:
    """The revision that this program needs, its newest."""
    return known()[-1]


def revision(connection: Connection) -> str | None:
    """The ledger's revision; None if it was never migrated."""
    table = f"{SCHEMA}.alembic_version"
    if connection.execute(text("SELECT to_regclass(:table) IS NULL"), {"table": table}).scalar_one():
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar_one_or_none()


def is_newer(connection: Connection) -> bool:
    """Whether a newer program migrated the ledger, which still serves this one. Raises UsageError if it does not."""
    have = revision(connection)
    if have is None or have in known():
        return False
    needed = str(connection.exec_driver_sql(_COMMENT).scalar_one() or "").removeprefix(OUTGROWN)
    if needed and newest() <= needed:
        raise UsageError(
            f"the database's ledger is at revision {have}, and serves only programs that know a migration after "
            f"{needed}; this version of Scorebeat knows those up to {newest()}. Upgrade Scorebeat; "
            "nothing was changed."
        )
    return True


def require_usable(connection: Connection) -> None:
    """Raises UsageError if the database was not migrated to this version, or no longer serves it."""
    have, want = revision(connection), newest()
    if have == want or is_newer(connection):
        return
    state = "has no ledger yet" if have is None else f"has the ledger's revision {have}, this version needs {want}"
    raise UsageError(f"the database {state}: run `scorebeat migrate`")
