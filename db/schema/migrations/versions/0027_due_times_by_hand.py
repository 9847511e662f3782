"""Runs that were made by hand for a due time are found by index: each list of jobs reads the newest."""

import sqlalchemy as sa
from alembic import op

from scorebeat.db.schema.migrations.indexes import create_index

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index(
        "runs_filled",
        "runs",
        ["job"],
        postgresql_where=sa.text("due_at IS NOT NULL AND created_by <> 'beat'"),
    )


def downgrade() -> None:
    op.drop_index("runs_filled", "runs", schema="scorebeat")
