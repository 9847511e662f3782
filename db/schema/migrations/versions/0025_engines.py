"""What computes the predictions of a model version, and how that was chosen."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "model_versions",
        sa.Column("engine", sa.Text, server_default="native", nullable=False, comment="what computes its predictions"),
        schema="scorebeat",
    )
    op.add_column(
        "model_versions",
        sa.Column(
            "engine_choice", JSONB, server_default="{}", nullable=False, comment="how it was chosen, with rows/s"
        ),
        schema="scorebeat",
    )


def downgrade() -> None:
    for column in ("engine_choice", "engine"):
        op.drop_column("model_versions", column, schema="scorebeat")
