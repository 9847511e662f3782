"""A profile that failed is no profile of too few rows."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "run_profiles",
        sa.Column("failure", sa.Text, comment="why the profile, or its comparison, failed; NULL: neither did"),
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_column("run_profiles", "failure", schema="scorebeat")
