"""Migrations: bringing a database's ledger to this program's version, and telling how they differ."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from core.errors import UsageError
from db.tables import PREDICTIONS, SCHEMA, metadata

LOCK = 7_265_626_541
"""Advisory lock: two programs that start together migrate one after the other."""


def migrate(connection: Connection) -> str | None:
    """Bring the ledger to this program's version, in the caller's transaction; answers the revision it had."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    for schema in (SCHEMA, PREDICTIONS):
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    before = revision(connection)
    known = _scripts(connection)
    if before is not None and before not in {s.revision for s in known.walk_revisions()}:
        raise UsageError(
            f"the database's ledger is at revision {before}, which this version of Scorebeat does not know: "
            "it is newer. Upgrade Scorebeat; nothing was changed."
        )
    command.upgrade(_config(connection), "head")
    return before


def revision(connection: Connection) -> str | None:
    """The ledger's revision; None when it was never migrated."""
    return MigrationContext.configure(connection, opts=alembic_options()).get_current_revision()


def newest(connection: Connection) -> str | None:
    return _scripts(connection).get_current_head()


def require_current(connection: Connection) -> None:
    """Raises UsageError when the database was not migrated to this version."""
    have, want = revision(connection), newest(connection)
    if have != want:
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


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _scripts(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(connection))
