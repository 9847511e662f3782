"""Alembic's migrations of the ledger, from an empty database to `db.schema.tables`."""
