"""For the metrics: since when a batch waits, and how many rows of an ended run failed and whether it was late."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("pending_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        schema="scorebeat",
    )
    # nobody wrote down when they were planned: their runs know about when
    op.execute(
        "UPDATE scorebeat.batches b SET pending_at = coalesce(r.planned_at, r.created_at) FROM scorebeat.runs r"
        " WHERE r.id = b.run_id AND b.state IN ('pending', 'claimed')"
    )
    op.add_column(
        "run_sums",
        sa.Column("rows_failed", sa.BigInteger(), server_default="0", nullable=False),
        schema="scorebeat",
    )
    op.add_column(
        "run_sums",
        sa.Column(
            "was_late",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="it first ended after its deadline",
        ),
        schema="scorebeat",
    )
    op.execute(
        "UPDATE scorebeat.run_sums s SET rows_failed = v.rows_failed,"
        " was_late = coalesce(v.finished_at > v.deadline_at, false) FROM scorebeat.run_status v WHERE v.id = s.run_id"
    )


def downgrade() -> None:
    op.drop_column("run_sums", "was_late", schema="scorebeat")
    op.drop_column("run_sums", "rows_failed", schema="scorebeat")
    op.drop_column("batches", "pending_at", schema="scorebeat")
