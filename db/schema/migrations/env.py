"""Alembic's environment: migrations over the connection from `db.schema.migrate`, or as SQL."""

from alembic import context

from scorebeat.db.schema.migrate import alembic_options
from scorebeat.db.schema.migrations.releases import note_contraction
from scorebeat.db.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    dialect_name="postgresql",
    literal_binds=context.is_offline_mode(),
    target_metadata=metadata,
    transaction_per_migration=True,  # one migration's locks end with it
    on_version_apply=note_contraction,
    **alembic_options(),
)
with context.begin_transaction():
    context.run_migrations()
