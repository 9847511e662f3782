"""What runs and workers used, by device and outcome, and prices."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_OF_BATCHES = {
    "device_seconds": "of attempts that committed it: from the claim to the commit",
    "cpu_seconds": "of attempts that committed it: CPU time of their process, all its threads",
}
_OUTCOMES = ("committed", "repeated", "discarded", "failed", "lost", "waited", "released", "cancelled", "planned")


def upgrade() -> None:
    for name, comment in _OF_BATCHES.items():
        op.add_column("batches", sa.Column(name, sa.Float(), nullable=True, comment=comment), schema="scorebeat")
    op.create_table(
        "run_usage",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="how the attempts ended"),
        sa.Column("device", sa.Text(), nullable=False, comment="cpu, or the model of a GPU, such as NVIDIA H200"),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="on which the run began, in UTC"),
        sa.Column("queue", sa.Text(), nullable=False, comment="of its batches; of a plan, plan"),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column(
            "device_seconds",
            sa.Float(),
            nullable=False,
            comment="from claim to end, divided by processes on one GPU",
        ),
        sa.Column("cpu_seconds", sa.Float(), nullable=False, comment="of processes that lived to report it"),
        sa.Column(
            "rows", sa.BigInteger(), nullable=False, comment="scored by attempts that committed, else left to do"
        ),
        sa.CheckConstraint(f"outcome IN ({', '.join(map(repr, _OUTCOMES))})", name="outcome"),
        sa.PrimaryKeyConstraint("run_id", "outcome", "device", name="run_usage_pkey"),
        schema="scorebeat",
    )
    op.create_table(
        "worker_time",
        sa.Column("month", sa.Date(), nullable=False, comment="its first day, in UTC"),
        sa.Column("queue", sa.Text(), nullable=False, comment="the first queue of batches that the workers serve"),
        sa.Column("device", sa.Text(), nullable=False, comment="as in run_usage"),
        sa.Column(
            "device_seconds", sa.Float(), nullable=False, comment="that workers were alive, by a core or GPU each"
        ),
        sa.PrimaryKeyConstraint("month", "queue", "device", name="worker_time_pkey"),
        schema="scorebeat",
    )
    op.create_table(
        "prices",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False, comment="the first that fits counts"),
        sa.Column("name", sa.Text(), nullable=False, comment="of its block in prices.toml"),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("price", sa.Float(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("since", sa.Date(), nullable=False, comment="for runs that began on this day or later, in UTC"),
        sa.Column("queue", sa.Text(), nullable=False, comment="a pattern"),
        sa.Column("device", sa.Text(), nullable=False, comment="a pattern"),
        sa.Column("applied_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("unit IN ('core_hour', 'gpu_hour')", name="unit"),
        sa.CheckConstraint("price >= 0", name="price"),
        sa.PrimaryKeyConstraint("position", name="prices_pkey"),
        sa.UniqueConstraint("name", name="prices_name_key"),
        schema="scorebeat",
    )


def downgrade() -> None:
    for name in ("prices", "worker_time", "run_usage"):
        op.drop_table(name, schema="scorebeat")
    for name in _OF_BATCHES:
        op.drop_column("batches", name, schema="scorebeat")
