"""Migrations: bringing a database's ledger to this program's version, and telling how they differ."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from scorebeat.core.errors import UsageError
from scorebeat.db.tables import PREDICTIONS, SCHEMA, metadata

LOCK = 7_265_626_541
"""Advisory lock: two programs that start together migrate one after the other."""

FOLDER = Path(__file__).parent / "migrations"
OUTGROWN = "programs must know a migration after "
"""Begins the comment that a contracting migration leaves on Alembic's table, for older programs to read."""


def migrate(connection: Connection) -> str | None:
    """Bring a ledger that nobody uses yet to this program's version; answers the revision it had.

    All in the caller's transaction, whose locks last to its end: `db.upgrade` is for ledgers that are in use.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    make_schemas(connection)
    before = revision(connection)
    if not is_newer(connection):
        command.upgrade(config(connection), "head")
    return before


def make_schemas(connection: Connection) -> None:
    """IF NOT EXISTS would want the right to make schemas, whether there is one or not."""
    for schema in (SCHEMA, PREDICTIONS):
        if connection.execute(text("SELECT to_regnamespace(:schema) IS NULL"), {"schema": schema}).scalar_one():
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")


def revision(connection: Connection) -> str | None:
    """The ledger's revision; None when it was never migrated."""
    return MigrationContext.configure(connection, opts=alembic_options()).get_current_revision()


def newest(connection: Connection) -> str | None:
    """The revision that this program needs, its newest."""
    return _scripts(connection).get_current_head()


def is_newer(connection: Connection) -> bool:
    """A newer program migrated the ledger, and it still serves this one. Raises UsageError where it does not."""
    have, known = revision(connection), [script.revision for script in _scripts(connection).walk_revisions()]
    if have is None or have in known:
        return False
    needed = str(connection.exec_driver_sql(_COMMENT).scalar_one() or "").removeprefix(OUTGROWN)
    if needed and max(known) <= needed:
        raise UsageError(
            f"the database's ledger is at revision {have}, and serves only programs that know a migration after "
            f"{needed}; this version of Scorebeat knows those up to {max(known)}. Upgrade Scorebeat; "
            "nothing was changed."
        )
    return True


def require_usable(connection: Connection) -> None:
    """Raises UsageError when the database was not migrated to this version, or no longer serves it."""
    have, want = revision(connection), newest(connection)
    if have == want or is_newer(connection):
        return
    state = "has no ledger yet" if have is None else f"has the ledger's revision {have}, this version needs {want}"
    raise UsageError(f"the database {state}: run `scorebeat migrate`")


def differences(connection: Connection) -> list[Any]:
    """How the migrated database differs from `db.tables`; empty when they are equal."""
    # to a role named as our schema it is the default one, which Alembic would leave out
    connection.dialect.default_schema_name = "public"
    context = MigrationContext.configure(connection, opts={**alembic_options(), "compare_type": True})
    found: list[Any] = compare_metadata(context, metadata)
    return found


def alembic_options() -> dict[str, Any]:
    return {
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        "compare_server_default": True,
    }


def config(connection: Connection | None = None) -> Config:
    """Alembic's; without a connection it can only write SQL."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def _scripts(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(config(connection))


_COMMENT = f"SELECT obj_description(to_regclass('{SCHEMA}.alembic_version'), 'pg_class')"
