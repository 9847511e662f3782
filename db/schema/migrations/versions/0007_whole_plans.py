"""A run knows whether its plan is whole: one that was cut short has not scored every row, whatever its batches say."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "plan_is_whole",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="its planner came to the end of the rows",
        ),
        schema="scorebeat",
    )
    op.execute(
        "UPDATE scorebeat.runs SET plan_is_whole = true"
        " WHERE planned_at IS NOT NULL AND coalesce(reason, '') NOT LIKE 'planning was cut short%'"
    )
    _of_batches()


def _of_batches() -> None:
    """A death is of one process, and a claim that expired once is not yet a death."""
    op.add_column(
        "batches",
        sa.Column(
            "claimed_pid",
            sa.Integer(),
            nullable=True,
            comment="process of that worker that has, or last had, the batch",
        ),
        schema="scorebeat",
    )
    op.add_column(
        "batches",
        sa.Column(
            "probe_expiries",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="claims that expired with the probe",
        ),
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_column("batches", "probe_expiries", schema="scorebeat")
    op.drop_column("batches", "claimed_pid", schema="scorebeat")
    op.drop_column("runs", "plan_is_whole", schema="scorebeat")
