"""A batch says on which device it was scored, when its worker is long gone."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    device = sa.Column("device", sa.Text(), comment="of the worker that has, or last had, the batch")
    op.add_column("batches", device, schema="scorebeat")


def downgrade() -> None:
    op.drop_column("batches", "device", schema="scorebeat")
