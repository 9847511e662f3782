"""Recording each end of a run once: its sums, so that no scrape adds up all history, and its notices."""

import json
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import NOTIFY_ON_BY_DEFAULT
from scorebeat.core.states import AttemptEnd
from scorebeat.db.ledger.runs import IS_TICK
from scorebeat.db.records import usage
from scorebeat.db.records.counters import ENDED

OVERDUE = "results.overdue"
"""The action that is recorded once for each time by which results were needed, with the run that failed."""
NOTICED_WITHIN = timedelta(days=1)
"""No notice is made for an older end: it was recorded late, or `notify` is new."""


@dataclass(frozen=True)
class Noted:
    """What one call of `note` recorded."""

    ends: int
    without_notice: dict[str, int]
    """Number of ends without a notice because they are older than `NOTICED_WITHIN`, by job."""


_URL = "j.spec ->> 'notify' IS NOT NULL AND j.removed_at IS NULL"
_DEFAULT_EVENTS = json.dumps(NOTIFY_ON_BY_DEFAULT)
NOTIFIED_EVENTS = f"coalesce(j.spec -> 'notify_on', '{_DEFAULT_EVENTS}'::jsonb)"
"""SQL: the events that are posted to the job's address."""
_DRIFTED = (
    "EXISTS (SELECT FROM scorebeat.run_profiles p, jsonb_array_elements(p.findings) f WHERE p.run_id = n.id"
    " AND p.findings IS NOT NULL AND jsonb_array_length(f -> 'reasons') > 0)"
)
"""SQL: an input or output of run n is too far from the reference."""
_FIRST_END = "NOT EXISTS (SELECT 1 FROM scorebeat.run_sums WHERE run_id = {run})"


def _sum(column: str, pruned: str | None = None) -> str:
    """SQL: the sum over the stored batches and the pruned ones."""
    return f"coalesce(sum(b.{column}), 0) + coalesce(max(p.{pruned or column}), 0)"


_DONE = "FILTER (WHERE b.state = 'committed' AND b.claimed_at IS NOT NULL)"
_TIMES = (
    f"extract(epoch FROM min(b.claimed_at) {_DONE} - e.created_at)::float8,"
    f" extract(epoch FROM max(b.finished_at) {_DONE} - min(b.claimed_at) {_DONE})::float8,"
    f" extract(epoch FROM sum(b.finished_at - b.claimed_at) {_DONE})::float8,"
    f" nullif(count(DISTINCT (b.claimed_by, b.claimed_pid)) {_DONE}, 0)::int"
)
"""SQL: what the run took, of its batches' last attempts; NULL without any. `forecasts` reads it."""


_OF_ENDED = usage.of_batches("FROM ended e JOIN scorebeat.batches b ON b.run_id = e.id WHERE true")
_NOTE = (
    f"WITH ended AS (SELECT r.id, r.job, r.state, r.created_at, r.finished_at, r.deadline_at, {IS_TICK} AS is_tick"
    " FROM scorebeat.runs r WHERE r.finished_at IS NOT NULL AND r.noted_at IS NULL"
    " ORDER BY r.id LIMIT :limit FOR UPDATE SKIP LOCKED),"
    " sums AS (INSERT INTO scorebeat.run_sums AS s (run_id, job, state, rows_scored, rows_failed, attempts, was_late,"
    " wait_seconds, span_seconds, busy_seconds, processes)"
    f" SELECT e.id, e.job, e.state, {_sum('rows_scored')}, {_sum('rows_failed')}, {_sum('attempt', 'attempts')},"
    f" coalesce(e.finished_at > e.deadline_at, false), {_TIMES}"
    " FROM ended e LEFT JOIN scorebeat.pruned_batches p ON p.run_id = e.id"
    " LEFT JOIN scorebeat.batches b ON b.run_id = e.id"
    " GROUP BY e.id, e.job, e.state, e.created_at, e.finished_at, e.deadline_at"
    # a whole run that was begun again may end with less, and a counter must not fall
    " ON CONFLICT (run_id) DO UPDATE SET state = EXCLUDED.state, attempts = EXCLUDED.attempts,"
    " rows_scored = greatest(s.rows_scored, EXCLUDED.rows_scored), rows_failed = EXCLUDED.rows_failed),"
    f" used AS ({usage.adding(AttemptEnd.COMMITTED, _OF_ENDED)}),"
    # counts what happened, not the present state: a requeued run still was partial
    f" counted AS (INSERT INTO scorebeat.counters (name, job, value) SELECT '{ENDED}' || state, job, count(*)"
    " FROM ended GROUP BY job, state ORDER BY job, state"
    " ON CONFLICT (name, job) DO UPDATE SET value = counters.value + EXCLUDED.value),"
    # a tick that found nothing to score is `empty`
    f" news AS (SELECT e.*, e.finished_at > now() - :noticed_within AS is_young, {NOTIFIED_EVENTS} ?"
    " CASE WHEN e.state IN ('failed', 'held') THEN e.state WHEN e.state = 'succeeded' AND e.is_tick"
    " AND NOT EXISTS (SELECT FROM scorebeat.batches b WHERE b.run_id = e.id) THEN 'empty' ELSE 'finished' END"
    f" AS is_notified, {NOTIFIED_EVENTS} ? 'late' AS is_notified_late, {NOTIFIED_EVENTS} ? 'drift' AS is_notified_drift"
    f" FROM ended e JOIN scorebeat.jobs j ON j.name = e.job WHERE {_URL}),"
    " judged AS (SELECT n.*, EXISTS (SELECT FROM scorebeat.notices z JOIN scorebeat.actions a"
    f" ON a.subject = 'job ' || n.job AND a.action = '{OVERDUE}' WHERE z.run_id = n.id AND z.event = 'late'"
    " AND z.kind IS NULL AND a.details -> 'run' = to_jsonb(n.id)"
    " AND CAST(a.details ->> 'failed_at' AS timestamptz) = n.finished_at)"
    " AS late_reports_end, n.is_notified_late AND coalesce(n.finished_at > n.deadline_at, false)"
    f" AND {_FIRST_END.format(run='n.id')} AND NOT EXISTS (SELECT FROM scorebeat.notices z WHERE z.run_id = n.id"
    " AND z.event = 'late' AND z.kind IS NULL) AS is_late FROM news n WHERE n.is_young),"
    " posted AS (INSERT INTO scorebeat.notices (run_id, event, happened_at)"
    # a run that failed and is late is one post: `late`, which has both, unless `late` was posted while it was open
    " SELECT n.id, CASE WHEN n.state IN ('failed', 'held') THEN n.state ELSE 'finished' END, n.finished_at"
    " FROM judged n"
    " WHERE n.is_notified AND n.state <> 'cancelled' AND NOT (n.state = 'failed' AND (n.is_late OR n.late_reports_end))"
    " UNION ALL SELECT n.id, 'late', n.deadline_at FROM judged n WHERE n.is_late"
    " AND NOT (n.state = 'failed' AND n.late_reports_end)"
    # who released a held run knows it
    " UNION ALL SELECT n.id, 'drift', n.finished_at FROM judged n WHERE n.is_notified_drift"
    f" AND n.state IN ('succeeded', 'partial') AND {_DRIFTED} AND NOT EXISTS (SELECT FROM scorebeat.notices z"
    " WHERE z.run_id = n.id AND z.event = 'held') ON CONFLICT DO NOTHING),"
    " noted AS (UPDATE scorebeat.runs r SET noted_at = r.finished_at FROM ended e WHERE r.id = e.id)"
    " SELECT e.job, count(*), count(*) FILTER (WHERE NOT n.is_young AND n.is_notified AND n.state <> 'cancelled')"
    " FROM ended e LEFT JOIN news n ON n.id = e.id GROUP BY e.job ORDER BY e.job"
)


def note(connection: Connection, limit: int = 200) -> Noted:
    """Record ends that are not recorded yet, and make the notices of jobs that want them.

    A run that a requeue opened again ends once more: its sums are replaced, but its first end decides whether it was
    late. Safe to call twice at once.
    """
    rows = connection.execute(text(_NOTE), {"limit": limit, "noticed_within": NOTICED_WITHIN}).all()
    return Noted(sum(ends for _, ends, _ in rows), {job: too_old for job, _, too_old in rows if too_old})


def note_late(connection: Connection) -> list[int]:
    """Make the notice of each open run whose deadline has passed, once a run. Returns those runs.

    A run that a requeue opened again is left out: its first end decided whether it was late.
    """
    rows = connection.execute(
        text(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at) SELECT r.id, 'late', r.deadline_at"
            " FROM scorebeat.runs r JOIN scorebeat.jobs j ON j.name = r.job"
            " WHERE r.state IN ('planning', 'running') AND r.deadline_at < clock_timestamp()"
            f" AND {_URL} AND {NOTIFIED_EVENTS} ? 'late' AND {_FIRST_END.format(run='r.id')}"
            " AND NOT EXISTS (SELECT 1 FROM scorebeat.notices n"
            " WHERE n.run_id = r.id AND n.event = 'late' AND n.kind IS NULL) ON CONFLICT DO NOTHING RETURNING run_id"
        )
    ).scalars()
    return list(rows)
