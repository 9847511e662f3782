"""For forecasts: what a run took of processes, and notices of what is expected."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("wait_seconds", sa.Float(), "from its request to its first claim"),
    ("span_seconds", sa.Float(), "from its first claim to its last commit"),
    ("busy_seconds", sa.Float(), "from claim to commit, over all its batches"),
    ("processes", sa.Integer(), "that committed batches of it"),
)
_NEWEST = 10
"""Runs of each job whose times are computed now, so that the first night after an upgrade is forecast."""


def upgrade() -> None:
    for name, kind, comment in _COLUMNS:
        op.add_column("run_sums", sa.Column(name, kind, nullable=True, comment=comment), schema="scorebeat")
    op.add_column(
        "notices",
        sa.Column("kind", sa.Text(), comment="late.expected: the event is not there yet; NULL: it happened"),
        schema="scorebeat",
    )
    op.execute(
        "UPDATE scorebeat.run_sums s SET wait_seconds = t.wait, span_seconds = t.span, busy_seconds = t.busy,"
        " processes = t.processes FROM scorebeat.jobs j CROSS JOIN LATERAL (SELECT id, created_at FROM scorebeat.runs"
        " WHERE job = j.name AND state IN ('succeeded', 'partial') AND tries = 1"
        f" ORDER BY id DESC LIMIT {_NEWEST}) r CROSS JOIN LATERAL"
        " (SELECT extract(epoch FROM min(claimed_at) - r.created_at)::float8 AS wait,"
        " extract(epoch FROM max(finished_at) - min(claimed_at))::float8 AS span,"
        " extract(epoch FROM sum(finished_at - claimed_at))::float8 AS busy,"
        " count(DISTINCT (claimed_by, claimed_pid))::int AS processes FROM scorebeat.batches"
        " WHERE run_id = r.id AND state = 'committed' AND claimed_at IS NOT NULL) t"
        " WHERE s.run_id = r.id AND t.processes > 0"
    )


def downgrade() -> None:
    op.drop_column("notices", "kind", schema="scorebeat")
    for name, _, _ in _COLUMNS:
        op.drop_column("run_sums", name, schema="scorebeat")
