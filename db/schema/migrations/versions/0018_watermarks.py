"""A plan may begin at a watermark instead of comparing every key."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("watermark_of", sa.Text(), "a digest of what a later plan must have in common to use the watermark"),
    ("watermark", sa.Numeric(), "below it all rows that the plan saw are scored: microseconds since 1970, or a number"),
    ("compared_from", sa.Numeric(), "the watermark that the plan began at; NULL: it compared every key"),
    ("swept_at", sa.DateTime(timezone=True), None),
    ("cursor_highest", sa.Numeric(), "the largest number that the plan saw in its cursor"),
    ("rows_missed", sa.BigInteger(), "pending rows that the watermark would have left out; NULL: nobody looked"),
)


def upgrade() -> None:
    for name, kind, comment in _COLUMNS:
        op.add_column("runs", sa.Column(name, kind, nullable=True, comment=comment), schema="scorebeat")
    op.create_index("runs_set_finished", "runs", ["prediction_set_id", "finished_at"], schema="scorebeat")


def downgrade() -> None:
    op.drop_index("runs_set_finished", "runs", schema="scorebeat")
    for name, _, _ in _COLUMNS:
        op.drop_column("runs", name, schema="scorebeat")
