"""Alembic's environment: runs migrations on the connection that `db.schema` hands over."""

from alembic import context

from db.schema import alembic_options
from db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, **alembic_options())
with context.begin_transaction():
    context.run_migrations()
