"""For those who watch from outside: sums of ended runs, counters, notices, what was pruned, the view `run_status`."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RUN_STATUS = """
CREATE VIEW scorebeat.run_status AS
SELECT r.id, r.job, r.model, r.model_version, r.state, b.rows_planned, b.rows_scored, b.rows_failed,
    r.created_at, r.created_by, r.due_at, r.deadline_at, r.planned_at, r.finished_at, r.reason,
    r.spec ->> 'queue' AS queue, b.batches, b.batches_open, b.batches_dead
FROM scorebeat.runs r LEFT JOIN scorebeat.pruned_batches p ON p.run_id = r.id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(rows_planned), 0)::bigint + coalesce(p.rows_planned, 0) AS rows_planned,
        coalesce(sum(rows_scored), 0)::bigint + coalesce(p.rows_scored, 0) AS rows_scored,
        coalesce(sum(rows_failed), 0)::bigint + coalesce(p.rows_failed, 0) AS rows_failed,
        count(*) + coalesce(p.batches, 0) AS batches,
        count(*) FILTER (WHERE state IN ('pending', 'claimed')) AS batches_open,
        count(*) FILTER (WHERE state = 'dead') + coalesce(p.batches_dead, 0) AS batches_dead
    FROM scorebeat.batches WHERE run_id = r.id) b
"""


def upgrade() -> None:
    op.add_column("runs", sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True), schema="scorebeat")
    op.create_check_constraint(
        op.f("runs_noted_check"), "runs", "noted_at IS NULL OR finished_at IS NOT NULL", schema="scorebeat"
    )
    op.create_index(
        "runs_to_note",
        "runs",
        ["id"],
        schema="scorebeat",
        postgresql_where=sa.text("finished_at IS NOT NULL AND noted_at IS NULL"),
    )
    _sums()
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False, comment="only grows"),
        sa.PrimaryKeyConstraint("name", "job", name=op.f("counters_pkey")),
        schema="scorebeat",
    )
    _notices()
    op.execute(RUN_STATUS)


def _sums() -> None:
    op.create_table(
        "run_sums",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="as it ended"),
        sa.Column("rows_scored", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="claims of its batches"),
        sa.ForeignKeyConstraint(["run_id"], ["scorebeat.runs.id"], name=op.f("run_sums_run_id_fkey")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_sums_pkey")),
        schema="scorebeat",
    )
    counts = ("batches", "batches_dead", "rows_planned", "rows_scored", "rows_failed", "attempts")
    op.create_table(
        "pruned_batches",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pruned_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.ForeignKeyConstraint(["run_id"], ["scorebeat.runs.id"], name=op.f("pruned_batches_run_id_fkey")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pruned_batches_pkey")),
        schema="scorebeat",
    )


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True, comment="of the last attempt that failed"),
        sa.CheckConstraint("event IN ('finished', 'failed', 'late')", name=op.f("notices_event_check")),
        sa.CheckConstraint("delivered_at IS NULL OR given_up_at IS NULL", name=op.f("notices_end_check")),
        sa.ForeignKeyConstraint(["run_id"], ["scorebeat.runs.id"], name=op.f("notices_run_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("notices_pkey")),
        sa.UniqueConstraint("run_id", "event", "happened_at", name=op.f("notices_run_id_event_happened_at_key")),
        schema="scorebeat",
    )
    op.create_index(
        "notices_due",
        "notices",
        ["due_at"],
        schema="scorebeat",
        postgresql_where=sa.text("delivered_at IS NULL AND given_up_at IS NULL"),
    )


def downgrade() -> None:
    op.execute("DROP VIEW scorebeat.run_status")
    for table in ("notices", "counters", "pruned_batches", "run_sums"):
        op.drop_table(table, schema="scorebeat")
    op.drop_constraint("runs_noted_check", "runs", schema="scorebeat")
    op.drop_index("runs_to_note", table_name="runs", schema="scorebeat")
    op.drop_column("runs", "noted_at", schema="scorebeat")
