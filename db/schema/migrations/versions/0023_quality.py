"""What came of predictions: their quality by week, and when the truth was read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quality",
        sa.Column("job", sa.Text, sa.ForeignKey("scorebeat.jobs.name"), primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("week", sa.Date, primary_key=True, comment="its Monday"),
        sa.Column("rows", sa.BigInteger, nullable=False, comment="predictions whose truth became known in the week"),
        sa.Column(
            "null_labels", sa.BigInteger, nullable=False, comment="rows of the truth without a label, not among rows"
        ),
        sa.Column(
            "scored_after",
            sa.BigInteger,
            nullable=False,
            comment="rows that were scored after the truth was known",
        ),
        sa.Column("predictions", sa.BigInteger, nullable=False, comment="predictions that were made in the week"),
        sa.Column("with_truth", sa.BigInteger, nullable=False, comment="of these, how many have a truth by now"),
        sa.Column("metrics", JSONB, nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        schema="scorebeat",
    )
    op.create_table(
        "truth_readings",
        sa.Column("job", sa.Text, sa.ForeignKey("scorebeat.jobs.name"), primary_key=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failure", sa.Text, comment="why the last reading failed; NULL: it did not"),
        schema="scorebeat",
    )


def downgrade() -> None:
    for table in ("truth_readings", "quality"):
        op.drop_table(table, schema="scorebeat")
