"""The failed run of a due time is found by index: pages of runs look whether another one replaced it."""

import sqlalchemy as sa
from alembic import op

from scorebeat.db.schema.migrations.indexes import create_index

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("runs_failed_due", "runs", ["job", "due_at"], postgresql_where=sa.text("state = 'failed'"))


def downgrade() -> None:
    op.drop_index("runs_failed_due", "runs", schema="scorebeat")
