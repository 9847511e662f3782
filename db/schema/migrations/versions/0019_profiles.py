"""Runs keep a profile of their inputs and outputs, which is compared with a reference."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reference_profiles",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("job", sa.Text, sa.ForeignKey("scorebeat.jobs.name")),
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("scorebeat.runs.id")),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "model_version"], ["scorebeat.model_versions.name", "scorebeat.model_versions.version"]
        ),
        schema="scorebeat",
    )
    op.create_index(
        "reference_profiles_one",
        "reference_profiles",
        ["model", "model_version", sa.text("coalesce(job, '')")],
        unique=True,
        schema="scorebeat",
    )
    op.create_table(
        "run_profiles",
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("scorebeat.runs.id"), primary_key=True, autoincrement=False),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("reference_id", sa.BigInteger, sa.ForeignKey("scorebeat.reference_profiles.id")),
        sa.Column("findings", JSONB),
        sa.Column("why_not", sa.Text),
        sa.Column("compared_at", sa.DateTime(timezone=True)),
        schema="scorebeat",
    )
    op.create_table(
        "batch_profiles",
        sa.Column("batch_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("scorebeat.runs.id"), nullable=False),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        schema="scorebeat",
    )
    op.create_index("batch_profiles_of_run", "batch_profiles", ["run_id"], schema="scorebeat")
    # sketches hardly shrink, and compressing them takes a part of each commit
    op.execute("ALTER TABLE scorebeat.batch_profiles ALTER profile SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in ("batch_profiles", "run_profiles", "reference_profiles"):
        op.drop_table(table, schema="scorebeat")
