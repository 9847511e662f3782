"""What pages ask for is found by index: the rows that a batch put aside, and what was done to a run or a job."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("quarantine_of_batch", "quarantine", ["batch_id"], schema="scorebeat")
    op.create_index("actions_on", "actions", ["subject", "id"], schema="scorebeat")


def downgrade() -> None:
    op.drop_index("actions_on", table_name="actions", schema="scorebeat")
    op.drop_index("quarantine_of_batch", table_name="quarantine", schema="scorebeat")
