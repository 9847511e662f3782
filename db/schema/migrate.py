"""Migrations: bringing a database's ledger to this program's version, and comparing it with the tables."""

from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from scorebeat.core.table_names import PREDICTIONS, SCHEMA, WORK
from scorebeat.db.schema import revisions
from scorebeat.db.schema.tables import metadata

LOCK = 7_265_626_541
"""Advisory lock: two programs that start together migrate one after the other."""


def migrate(connection: Connection) -> str | None:
    """Bring a ledger that nobody uses yet to this program's version. Returns the revision it had.

    It runs in the caller's transaction, which keeps its locks to the end: `db.schema.upgrade` is for ledgers in use.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    make_schemas(connection)
    before = revisions.revision(connection)
    if not revisions.is_newer(connection):
        command.upgrade(config(connection), "head")
    return before


def make_schemas(connection: Connection) -> None:
    """Make missing schemas. IF NOT EXISTS would need the right to make schemas even if they exist."""
    for schema in (SCHEMA, PREDICTIONS):
        if connection.execute(text("SELECT to_regnamespace(:schema) IS NULL"), {"schema": schema}).scalar_one():
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    # a role that may make no schema got the two from an administrator; without the third no job has snapshots
    connection.exec_driver_sql(
        f"DO $$ BEGIN IF to_regnamespace('{WORK}') IS NULL AND has_database_privilege(current_database(), 'CREATE')"
        f" THEN CREATE SCHEMA {WORK}; END IF; END $$"
    )


def differences(connection: Connection) -> list[Any]:
    """How the migrated database differs from `db.schema.tables`; empty when they are equal."""
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
    made.set_main_option("script_location", str(revisions.FOLDER))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made
