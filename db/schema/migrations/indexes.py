"""An index on a table that is large and in use, made while others write to it."""

from collections.abc import Sequence
from typing import Any

from alembic import op

CONCURRENTLY = "concurrently"
"""Attribute of Alembic's configuration: no transaction is around the migrations."""


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Make an index of the ledger without blocking commits; the rest of an interrupted build is removed first.

    No transaction is around it, so it is alone in its migration. In the transaction of `db.schema.migrate.migrate`,
    where nobody else is at work, it is an ordinary CREATE INDEX.
    """
    context = op.get_context()
    if not context.as_sql and not (context.config and context.config.attributes.get(CONCURRENTLY)):
        op.create_index(name, table, columns, schema="scorebeat", **options)
        return
    with context.autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for readers, and blocks nobody
        op.drop_index(name, table, schema="scorebeat", if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, schema="scorebeat", postgresql_concurrently=True, **options)
