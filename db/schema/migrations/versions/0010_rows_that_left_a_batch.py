"""Rows that a requeue gave a batch of their own are planned there alone, and each end of a run is counted once."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _replace("rows_planned >= 0")
    # what the counters of ends begin with: until now they were counted from here
    op.execute(
        "INSERT INTO scorebeat.counters (name, job, value)"
        " SELECT 'runs_' || state, job, count(*) FROM scorebeat.run_sums GROUP BY job, state"
    )


def downgrade() -> None:
    op.execute("DELETE FROM scorebeat.counters WHERE starts_with(name, 'runs_')")
    _replace("rows_planned > 0")


def _replace(planned: str) -> None:
    name = op.f("batches_rows_check")
    op.drop_constraint(name, "batches", schema="scorebeat", type_="check")
    op.create_check_constraint(
        name, "batches", f"{planned} AND rows_scored >= 0 AND rows_failed >= 0", schema="scorebeat"
    )
