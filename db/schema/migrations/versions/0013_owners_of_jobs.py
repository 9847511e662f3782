"""A job belongs to the file that it comes from, and no other file changes or removes it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("owner", sa.Text(), nullable=True, comment="the jobs file that it comes from; NULL: not known yet"),
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_column("jobs", "owner", schema="scorebeat")
