"""Runs have a rank, in whose order their batches are sent; a version can be dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "rank", sa.SmallInteger(), server_default="0", nullable=False, comment="0 scheduled, 1 by hand, 2 candidate"
        ),
        schema="scorebeat",
    )
    op.add_column(
        "batches",
        sa.Column(
            "rank",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="its run's: lower ones are sent first",
        ),
        schema="scorebeat",
    )
    op.drop_index("batches_pending", table_name="batches", schema="scorebeat")
    op.create_index("batches_pending", "batches", ["queue", "rank", "id"], schema="scorebeat", postgresql_where=PENDING)
    op.add_column("model_versions", sa.Column("dropped_at", sa.DateTime(timezone=True)), schema="scorebeat")
    op.create_check_constraint(
        op.f("model_versions_dropped_check"),
        "model_versions",
        "dropped_at IS NULL OR published_at IS NULL OR retired_at IS NOT NULL",
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_column("model_versions", "dropped_at", schema="scorebeat")
    op.drop_index("batches_pending", table_name="batches", schema="scorebeat")
    op.create_index("batches_pending", "batches", ["queue", "id"], schema="scorebeat", postgresql_where=PENDING)
    op.drop_column("batches", "rank", schema="scorebeat")
    op.drop_column("runs", "rank", schema="scorebeat")
