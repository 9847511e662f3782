"""Small looks at jobs through their real workers."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("job", sa.Text, sa.ForeignKey("scorebeat.jobs.name"), nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker", sa.Text, comment="the worker that took it"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
        sa.Column("model", sa.Text, comment="the version that was looked at, such as iris/3"),
        sa.Column("rows", sa.BigInteger, comment="rows that were scored"),
        sa.Column("compared", sa.BigInteger, comment="rows whose stored prediction was compared"),
        sa.Column("differing", sa.BigInteger, comment="rows with another stored prediction"),
        sa.Column("failure", sa.Text, comment="what is wrong; NULL after a good one"),
        schema="scorebeat",
    )
    op.create_index("canaries_of_job", "canaries", ["job", "id"], schema="scorebeat")
    op.create_index(
        "canaries_unreported", "canaries", ["id"], schema="scorebeat", postgresql_where=sa.text("reported_at IS NULL")
    )


def downgrade() -> None:
    op.drop_table("canaries", schema="scorebeat")
