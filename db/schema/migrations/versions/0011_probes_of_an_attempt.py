"""A row is blamed for the death of the attempt that scored it alone, and of no other."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("probe_attempt", sa.Integer(), nullable=True, comment="the attempt that scored `probe_key` last"),
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_column("batches", "probe_attempt", schema="scorebeat")
