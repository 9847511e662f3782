"""Tables for monitoring: sums of ended runs, counters, notices, and the view `run_status`."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

from scorebeat.db.schema.metadata import metadata, timestamp

NOTICES = ("finished", "failed", "late", "drift", "held")
"""The events of notices."""
LATE_EXPECTED = "late.expected"
"""The kind of a notice whose event is forecast, and the action that records it."""

run_sums = Table(
    "run_sums",
    metadata,
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), primary_key=True, autoincrement=False),
    Column("job", Text, nullable=False),
    Column("state", Text, nullable=False, comment="as it ended"),
    Column("rows_scored", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False, comment="claims of its batches"),
    Column("rows_failed", BigInteger, nullable=False, server_default="0"),
    Column("was_late", Boolean, nullable=False, server_default="false", comment="it first ended after its deadline"),
    # for forecasts, of its first end; NULL: nothing was claimed, or an older program counted it
    Column("wait_seconds", Float, comment="from its request to its first claim"),
    Column("span_seconds", Float, comment="from its first claim to its last commit"),
    Column("busy_seconds", Float, comment="from claim to commit, over all its batches"),
    Column("processes", Integer, comment="that committed batches of it"),
)

pruned_batches = Table(
    "pruned_batches",
    metadata,
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), primary_key=True, autoincrement=False),
    timestamp("pruned_at", now=True, null=False),
    Column("batches", BigInteger, nullable=False),
    Column("batches_dead", BigInteger, nullable=False),
    Column("rows_planned", BigInteger, nullable=False),
    Column("rows_scored", BigInteger, nullable=False),
    Column("rows_failed", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("value", BigInteger, nullable=False, comment="only grows"),
)

notices = Table(
    "notices",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", BigInteger, ForeignKey("scorebeat.runs.id"), nullable=False),
    Column("event", Text, nullable=False),
    timestamp("happened_at", null=False),
    timestamp("created_at", now=True, null=False),
    timestamp("due_at", now=True, null=False),  # the next attempt is not made before
    Column("attempts", Integer, nullable=False, server_default="0"),
    timestamp("delivered_at"),
    timestamp("given_up_at"),
    Column("error", Text, comment="of the last attempt that failed"),
    Column("kind", Text, comment="late.expected: the event is not there yet; NULL: it happened"),
    CheckConstraint(f"event IN ({', '.join(map(repr, NOTICES))})", name="event"),
    CheckConstraint("delivered_at IS NULL OR given_up_at IS NULL", name="end"),
    UniqueConstraint("run_id", "event", "happened_at"),
)
Index("notices_due", notices.c.due_at, postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"))

RUN_STATUS = (
    "CREATE VIEW scorebeat.run_status AS SELECT r.id, r.job, r.model, r.model_version, r.state,"
    " b.rows_planned, b.rows_scored, b.rows_failed, r.created_at, r.created_by, r.due_at, r.deadline_at, r.planned_at,"
    " r.finished_at, r.reason, r.spec ->> 'queue' AS queue, b.batches, b.batches_open, b.batches_dead"
    " FROM scorebeat.runs r LEFT JOIN scorebeat.pruned_batches p ON p.run_id = r.id CROSS JOIN LATERAL"
    " (SELECT coalesce(sum(rows_planned), 0)::bigint + coalesce(p.rows_planned, 0) AS rows_planned,"
    " coalesce(sum(rows_scored), 0)::bigint + coalesce(p.rows_scored, 0) AS rows_scored,"
    " coalesce(sum(rows_failed), 0)::bigint + coalesce(p.rows_failed, 0) AS rows_failed,"
    " count(*) + coalesce(p.batches, 0) AS batches,"
    " count(*) FILTER (WHERE state IN ('pending', 'claimed')) AS batches_open,"
    " count(*) FILTER (WHERE state = 'dead') + coalesce(p.batches_dead, 0) AS batches_dead"
    " FROM scorebeat.batches WHERE run_id = r.id) b"
)


def _add_view(_target: object, connection: Connection, **_: Any) -> None:
    connection.exec_driver_sql(RUN_STATUS)


event.listen(metadata, "after_create", _add_view)
