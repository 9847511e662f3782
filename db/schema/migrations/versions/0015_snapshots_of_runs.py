"""A run may own the rows that it scores, in a table of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# a role that may make no schema has no job with snapshots until somebody makes it
_SCHEMA = (
    "DO $$ BEGIN IF to_regnamespace('scorebeat_work') IS NULL"
    " AND has_database_privilege(current_database(), 'CREATE') THEN CREATE SCHEMA scorebeat_work; END IF; END $$"
)
_ROWS_READ_ONLY = """\
CREATE FUNCTION scorebeat.rows_read_only(query text, row_type anyelement) RETURNS SETOF anyelement
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    is_done boolean := false;
BEGIN
    PERFORM pg_catalog.set_config('transaction_read_only', 'on', true);
    RETURN QUERY EXECUTE query;
    is_done := true;
    RAISE EXCEPTION USING ERRCODE = 'SB001';
EXCEPTION WHEN SQLSTATE 'SB001' THEN
    IF NOT is_done THEN
        RAISE;
    END IF;
END
$$"""


def upgrade() -> None:
    op.execute(_SCHEMA)
    op.add_column(
        "runs",
        sa.Column(
            "snapshot_rows",
            sa.BigInteger(),
            nullable=True,
            comment="rows of scorebeat_work.run_ID when it was made; NULL: it has none",
        ),
        schema="scorebeat",
    )
    op.add_column(
        "batches",
        sa.Column(
            "first_row",
            sa.BigInteger(),
            nullable=True,
            comment="row number in the snapshot of the run; NULL: it has no snapshot",
        ),
        schema="scorebeat",
    )
    op.add_column("batches", sa.Column("last_row", sa.BigInteger(), nullable=True), schema="scorebeat")
    op.execute(_ROWS_READ_ONLY)


def downgrade() -> None:
    op.execute("DROP FUNCTION scorebeat.rows_read_only(text, anyelement)")
    op.drop_column("batches", "last_row", schema="scorebeat")
    op.drop_column("batches", "first_row", schema="scorebeat")
    op.drop_column("runs", "snapshot_rows", schema="scorebeat")
    op.execute("DROP SCHEMA IF EXISTS scorebeat_work CASCADE")
