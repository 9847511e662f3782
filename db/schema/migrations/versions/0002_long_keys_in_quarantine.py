"""Keys of any length in quarantine: a key that is too long for an index is put aside for just that."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("quarantine_prediction_set_id_key_key", "quarantine", schema="scorebeat", type_="unique")
    op.create_index(
        "quarantine_one_a_row",
        "quarantine",
        ["prediction_set_id", sa.text("md5(key::text)")],
        unique=True,
        schema="scorebeat",
    )


def downgrade() -> None:
    op.drop_index("quarantine_one_a_row", table_name="quarantine", schema="scorebeat")
    op.create_unique_constraint(
        "quarantine_prediction_set_id_key_key", "quarantine", ["prediction_set_id", "key"], schema="scorebeat"
    )
