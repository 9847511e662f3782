"""A tick that cannot begin its run leaves a failed run, also where no version of the model is there to score with."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("runs", "prediction_set_id", nullable=True, schema="scorebeat")
    op.add_column("runs", sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True), schema="scorebeat")


def downgrade() -> None:
    op.drop_column("runs", "retry_at", schema="scorebeat")
    op.execute(
        "DELETE FROM scorebeat.notices WHERE run_id IN (SELECT id FROM scorebeat.runs WHERE prediction_set_id IS NULL)"
    )
    op.execute(
        "DELETE FROM scorebeat.run_sums WHERE run_id IN (SELECT id FROM scorebeat.runs WHERE prediction_set_id IS NULL)"
    )
    op.execute("DELETE FROM scorebeat.runs WHERE prediction_set_id IS NULL")
    op.alter_column("runs", "prediction_set_id", nullable=False, schema="scorebeat")
