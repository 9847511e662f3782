"""Each ledger has a prefix of its own for the keys of its programs on the broker."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("is_only", sa.Boolean(), server_default="true", nullable=False),
        sa.Column(
            "broker_prefix",
            sa.Text(),
            nullable=False,
            comment="what the keys of its programs on the broker begin with",
        ),
        sa.PrimaryKeyConstraint("is_only", name=op.f("installation_pkey")),
        sa.CheckConstraint("is_only", name=op.f("installation_one_check")),
        schema="scorebeat",
    )
    op.execute(
        "INSERT INTO scorebeat.installation (broker_prefix)"
        " VALUES ('scorebeat:' || left(replace(gen_random_uuid()::text, '-', ''), 8) || ':')"
    )


def downgrade() -> None:
    op.drop_table("installation", schema="scorebeat")
