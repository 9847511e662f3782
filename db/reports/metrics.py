"""The numbers of the metrics, by a few cheap statements, none of which reads all history."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger.evidence import canaries, profiles, quality
from scorebeat.db.ledger.evidence.profiles import KEEPS_PROFILES
from scorebeat.db.processes import unloadable, workers
from scorebeat.db.records.counters import (
    CLAIMS_EXPIRED,
    ENDED,
    ROWS_MISSED,
    ROWS_TAKEN_BACK,
    SKIPPED,
    TICKS,
    TICKS_MISSED,
    TICKS_SKIPPED,
)
from scorebeat.db.reports.forecasts import forecasts
from scorebeat.db.reports.pages import job_lines
from scorebeat.db.reports.pages.job_lines import JobLine

WEEKS_BEFORE = 4
"""The newest week is compared with so many before it."""


@dataclass(frozen=True)
class Numbers:
    """The ledger at one time; rows as dictionaries."""

    jobs: list[dict[str, Any]]
    """`job`, `paused`, `rows_quarantined`, and over all history `rows_scored`, `rows_failed`, `attempts`, `runs_late`,
    `claims_expired`, `rows_missed`."""
    runs: dict[tuple[str, str], int]
    """Number of ends, by job and final state."""
    open_runs: list[dict[str, Any]]
    """`job`, `state`, `rows_pending`, `seconds_to_deadline`, `pending_seconds` (age of its oldest pending batch)."""
    expected_ends: dict[tuple[str, str], float]
    """Of open runs with a forecast, the latest of each job: seconds since 1970, by job and bound."""
    late_expected: dict[str, int]
    """1 if the likely end of an open run of the job passes the time its results are promised for, else 0."""
    batches: list[dict[str, Any]]
    """Of open runs: `job`, `queue`, `state`, `batches`."""
    last_runs: list[dict[str, Any]]
    """The newest ended run of each job: `job`, `state`, `seconds`, `finished`, `rows_scored`, `rows_failed`."""
    held: dict[str, int]
    """Number of runs that wait for a person, by job."""
    drift: list[dict[str, Any]]
    """The newest compared run of each job: `job`, `columns` that are too far from the reference, the largest `psi`."""
    not_compared: list[dict[str, Any]]
    """The newest run of each job that was to be compared: `job`, whether its profile `failed`, and, of a job whose gate
    holds drift, whether it is `not_compared` for another reason."""
    last_success: dict[str, float]
    """Seconds since 1970, by job."""
    models: list[dict[str, Any]]
    """`job`, `model`, `version` that the next run scores, and its `format`."""
    workers: dict[str, int]
    """Number of living workers by queue; 0 for a queue that a job needs and nobody serves."""
    undelivered: dict[str, int]
    """Number of notices that wait for another attempt, by job."""
    due: list[dict[str, Any]]
    """Of jobs with a schedule: `job`, `next_due` in seconds since 1970, `overdue` in seconds."""
    ticks_missed: dict[str, int]
    """Number of due times without a run, by job."""
    ticks_skipped: dict[tuple[str, str], int]
    """Number of due times intentionally without a run, by job and reason."""
    canary_failed: dict[str, bool]
    """Of jobs with a canary: whether the newest one failed, and no run has scored a row since."""
    canary_overdue: dict[str, float]
    """Of jobs with a canary: how long one should have been sent, in seconds."""
    unloadable: dict[tuple[str, str], int]
    """Number of living workers by the model version that they cannot load and `refused` or `failed`."""
    quality: list[dict[str, Any]]
    """The newest weeks of each job and version, the newest first: `job`, `model`, `version`, `rows`, `metrics`."""
    quality_failed: list[dict[str, Any]]
    """Of jobs whose truth was read: `job`, and whether the last reading `failed`."""


def read(connection: Connection) -> Numbers:
    """All numbers, from one snapshot if the caller's transaction has one."""
    lines = job_lines.listing(connection)
    listed = [line.job for line in lines]
    ticks = {(row["job"], row["name"]): row["value"] for row in _rows(connection, _TICKS)}
    now = database_clock.now(connection)
    ends, late = _forecasts(connection, lines)
    served = dict.fromkeys([CONTROL_QUEUE, PLAN_QUEUE, *(job.queue for job in listed)], 0)
    for worker in workers.alive(connection):
        for queue in worker["queues"]:
            served[queue] = served.get(queue, 0) + 1
    return Numbers(
        jobs=_rows(connection, _JOBS),
        runs={(row["job"], row["state"]): row["runs"] for row in _rows(connection, _RUNS)},
        open_runs=_rows(connection, _OPEN_RUNS),
        expected_ends=ends,
        late_expected=late,
        batches=_rows(connection, _BATCHES),
        last_runs=_rows(connection, _LAST_RUNS),
        held={row["job"]: row["runs"] for row in _rows(connection, _HELD)},
        drift=_rows(connection, _DRIFT),
        not_compared=_rows(connection, _NOT_COMPARED),
        last_success={row["job"]: row["finished"] for row in _rows(connection, _LAST_SUCCESS)},
        models=_models(connection, listed),
        workers=served,
        undelivered={row["job"]: row["notices"] for row in _rows(connection, _UNDELIVERED)},
        due=[
            {
                "job": line.job.name,
                "next_due": line.next_due_at.timestamp(),
                "overdue": max(0.0, (now - line.needed_by).total_seconds()),
            }
            for line in lines
            if line.next_due_at is not None and line.needed_by is not None
        ],
        ticks_missed={job.name: ticks.get((job.name, TICKS_MISSED), 0) for job in listed},
        ticks_skipped={
            (job.name, why): ticks.get((job.name, TICKS_SKIPPED + why), 0) for job in listed for why in SKIPPED
        },
        canary_failed={row["job"]: row["failed"] for row in _rows(connection, _CANARIES)},
        canary_overdue={one.job: one.overdue(now).total_seconds() for one in canaries.watched(connection)},
        unloadable=dict(
            Counter((u.model, "refused" if u.is_refused else "failed") for u in unloadable.known(connection))
        ),
        quality=_rows(connection, _QUALITY),
        quality_failed=_rows(connection, _QUALITY_FAILED),
    )


def _forecasts(connection: Connection, lines: list[JobLine]) -> tuple[dict[tuple[str, str], float], dict[str, int]]:
    """`Numbers.expected_ends` and `late_expected`."""
    known = forecasts.evidence(connection)
    jobs = {line.name: line for line in lines}
    deadlines = {row["id"]: row["deadline_at"] for row in _rows(connection, _DEADLINES)}
    ends: dict[tuple[str, str], float] = {}
    late = dict.fromkeys(jobs, 0)
    for run in known.runs.values():
        found = forecasts.of_run(known, run.id)
        for bound, at in (("earliest", found.earliest), ("likely", found.likely), ("latest", found.latest)):
            if at is not None:
                ends[run.job, bound] = max(ends.get((run.job, bound), 0.0), at.timestamp())
        needed_at = forecasts.needed_at(jobs.get(run.job), deadlines.get(run.id), run.rank)
        if run.job in late and needed_at is not None and found.is_firm and found.passes(needed_at):
            late[run.job] = 1
    return ends, late


def _models(connection: Connection, listed: list[Job]) -> list[dict[str, Any]]:
    """The model version of each job's next run; a job without one has no row."""
    known = {
        (row["name"], row["version"]): row
        for row in _rows(
            connection,
            "SELECT name, version, format, published_at IS NOT NULL AND retired_at IS NULL AS published"
            " FROM scorebeat.model_versions",
        )
    }
    published = {name: version for (name, version), row in known.items() if row["published"]}
    wanted = [(job, job.pinned_version or published.get(job.model_name)) for job in listed]
    return [
        {
            "job": job.name,
            "model": job.model_name,
            "version": version,
            "format": known[job.model_name, version]["format"],
        }
        for job, version in wanted
        if (job.model_name, version) in known
    ]


def _rows(connection: Connection, statement: str) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(text(statement))]


# run_sums has the sums of runs whose end was recorded; the batches of the few others are added up, each run's by index.
# An open run that is shown whole or not at all counts its scored rows only when it ends: its batches may begin again,
# and a counter must not fall
_LIVE = (
    "SELECT r.id, r.job, CASE WHEN r.counts THEN b.rows_scored + coalesce(p.rows_scored, 0) END AS rows_scored,"
    " b.rows_failed + coalesce(p.rows_failed, 0) AS rows_failed, b.attempts + coalesce(p.attempts, 0) AS attempts,"
    " coalesce(coalesce(r.finished_at, clock_timestamp()) > r.deadline_at, false) AS was_late FROM"
    " (SELECT id, job, finished_at, deadline_at, spec ->> 'on_failure' IS DISTINCT FROM 'retry-run' AS counts"
    " FROM scorebeat.runs WHERE state IN ('planning', 'running') UNION ALL"
    " SELECT id, job, finished_at, deadline_at, true FROM scorebeat.runs"
    " WHERE finished_at IS NOT NULL AND noted_at IS NULL) r"
    " LEFT JOIN scorebeat.pruned_batches p ON p.run_id = r.id CROSS JOIN LATERAL (SELECT"
    " coalesce(sum(rows_scored), 0) AS rows_scored, coalesce(sum(rows_failed), 0) AS rows_failed,"
    " coalesce(sum(attempt), 0) AS attempts FROM scorebeat.batches WHERE run_id = r.id) b"
)
_COUNTED = (
    "SELECT coalesce(l.job, s.job) AS job, sum(greatest(l.rows_scored, s.rows_scored)) AS rows_scored,"
    " sum(coalesce(l.rows_failed, s.rows_failed)) AS rows_failed, sum(coalesce(l.attempts, s.attempts)) AS attempts,"
    " count(*) FILTER (WHERE coalesce(s.was_late, l.was_late)) AS runs_late"
    f" FROM ({_LIVE}) AS l FULL JOIN scorebeat.run_sums s ON s.run_id = l.id GROUP BY coalesce(l.job, s.job)"
)
_JOBS = (
    f"WITH counted AS ({_COUNTED}),"
    " quarantined AS (SELECT s.job, sum(q.rows) AS rows FROM (SELECT prediction_set_id, count(*) AS rows"
    " FROM scorebeat.quarantine GROUP BY prediction_set_id) q JOIN scorebeat.prediction_sets s"
    " ON s.id = q.prediction_set_id AND s.dropped_at IS NULL GROUP BY s.job)"
    " SELECT j.name AS job, j.paused_at IS NOT NULL AS paused, coalesce(c.rows_scored, 0)::bigint AS rows_scored,"
    # rows that a requeue took back had failed too
    " coalesce(c.rows_failed, 0)::bigint + coalesce(t.value, 0) AS rows_failed,"
    " coalesce(c.attempts, 0)::bigint AS attempts, coalesce(c.runs_late, 0) AS runs_late,"
    " coalesce(e.value, 0) AS claims_expired, coalesce(m.value, 0) AS rows_missed,"
    " coalesce(q.rows, 0)::bigint AS rows_quarantined FROM scorebeat.jobs j LEFT JOIN counted c ON c.job = j.name"
    f" LEFT JOIN scorebeat.counters e ON e.job = j.name AND e.name = '{CLAIMS_EXPIRED}'"
    f" LEFT JOIN scorebeat.counters t ON t.job = j.name AND t.name = '{ROWS_TAKEN_BACK}'"
    f" LEFT JOIN scorebeat.counters m ON m.job = j.name AND m.name = '{ROWS_MISSED}'"
    " LEFT JOIN quarantined q ON q.job = j.name WHERE j.removed_at IS NULL ORDER BY j.name"
)
_RUNS = (
    f"SELECT c.job, substr(c.name, {len(ENDED) + 1}) AS state, c.value AS runs FROM scorebeat.counters c"
    " JOIN scorebeat.jobs j ON j.name = c.job AND j.removed_at IS NULL"
    f" WHERE starts_with(c.name, '{ENDED}') ORDER BY c.job, c.name"
)
_OPEN_RUNS = (
    "SELECT r.job, r.state, b.rows_pending,"
    " extract(epoch FROM r.deadline_at - clock_timestamp())::float8 AS seconds_to_deadline,"
    " extract(epoch FROM clock_timestamp() - b.pending_at)::float8 AS pending_seconds"
    " FROM scorebeat.runs r CROSS JOIN LATERAL"
    " (SELECT coalesce(sum(rows_planned - rows_scored - rows_failed), 0)::bigint AS rows_pending,"
    " min(pending_at) FILTER (WHERE state = 'pending') AS pending_at FROM scorebeat.batches"
    " WHERE run_id = r.id AND state IN ('pending', 'claimed')) b"
    " WHERE r.state IN ('planning', 'running') ORDER BY r.job, r.id"
)
_DEADLINES = (
    "SELECT id, deadline_at FROM scorebeat.runs WHERE state IN ('planning', 'running') AND deadline_at IS NOT NULL"
)
_BATCHES = (
    "SELECT r.job, b.queue, b.state, b.batches FROM scorebeat.runs r CROSS JOIN LATERAL (SELECT queue, state,"
    " count(*) AS batches FROM scorebeat.batches WHERE run_id = r.id GROUP BY queue, state) b"
    " WHERE r.state IN ('planning', 'running') ORDER BY r.job, r.id"
)
_NEWEST = (
    "SELECT {columns} FROM scorebeat.jobs j CROSS JOIN LATERAL (SELECT * FROM scorebeat.runs WHERE job = j.name"
    " AND {condition} ORDER BY id DESC LIMIT 1) r {joins} WHERE j.removed_at IS NULL ORDER BY j.name"
)
_FINISHED = "extract(epoch FROM r.finished_at)::float8 AS finished"
_LAST_RUNS = _NEWEST.format(
    columns=f"r.job, r.state, extract(epoch FROM r.finished_at - r.created_at)::float8 AS seconds, {_FINISHED},"
    " s.rows_scored, s.rows_failed",
    condition="finished_at IS NOT NULL",
    joins="CROSS JOIN LATERAL (SELECT rows_scored, rows_failed FROM scorebeat.run_status WHERE id = r.id OFFSET 0) s",
)
_LAST_SUCCESS = _NEWEST.format(columns=f"r.job, {_FINISHED}", condition="state = 'succeeded'", joins="")
_HELD = (
    "SELECT j.name AS job, count(r.id) AS runs FROM scorebeat.jobs j"
    " LEFT JOIN scorebeat.runs r ON r.job = j.name AND r.state = 'held'"
    " WHERE j.removed_at IS NULL GROUP BY j.name ORDER BY j.name"
)
_DRIFT = (
    "SELECT j.name AS job, f.columns, f.psi FROM scorebeat.jobs j CROSS JOIN LATERAL (SELECT findings"
    " FROM scorebeat.run_profiles WHERE job = j.name AND findings IS NOT NULL ORDER BY run_id DESC LIMIT 1) p"
    " CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE jsonb_array_length(e -> 'reasons') > 0) AS columns,"
    " max((e ->> 'psi')::float8) AS psi FROM jsonb_array_elements(p.findings) e) f"
    f" WHERE j.removed_at IS NULL AND {KEEPS_PROFILES} ORDER BY j.name"
)
_NOT_COMPARED = (
    "SELECT j.name AS job, p.failure IS NOT NULL AS failed, CASE WHEN j.spec -> 'gate' ->> 'drift' = 'hold'"
    f" THEN {profiles.IS_NOT_COMPARED} AND p.failure IS NULL END AS not_compared"
    f" FROM scorebeat.jobs j CROSS JOIN LATERAL {profiles.NEWEST} p CROSS JOIN LATERAL (SELECT p.id, p.state, p.spec) r"
    f" WHERE j.removed_at IS NULL AND {KEEPS_PROFILES} ORDER BY j.name"
)
_CANARIES = (
    "SELECT j.name AS job, c.failure IS NOT NULL AND NOT EXISTS (SELECT FROM scorebeat.runs r WHERE r.job = j.name"
    f" AND r.planned_at > c.finished_at AND {canaries.HAS_SCORED}) AS failed FROM scorebeat.jobs j CROSS JOIN LATERAL"
    " (SELECT failure, finished_at FROM scorebeat.canaries WHERE job = j.name AND finished_at IS NOT NULL"
    " ORDER BY id DESC LIMIT 1) c"
    " WHERE j.removed_at IS NULL AND jsonb_typeof(j.spec -> 'canary') = 'object' ORDER BY j.name"
)
_TICKS = f"SELECT job, name, value FROM scorebeat.counters WHERE starts_with(name, '{TICKS}') ORDER BY job, name"
_UNDELIVERED = (
    "SELECT r.job, count(*) AS notices FROM scorebeat.notices n JOIN scorebeat.runs r ON r.id = n.run_id"
    " WHERE n.delivered_at IS NULL AND n.given_up_at IS NULL AND n.attempts > 0 GROUP BY r.job ORDER BY r.job"
)
_QUALITY = (
    "SELECT job, model, version, rows, metrics FROM (SELECT q.*, row_number() OVER"
    " (PARTITION BY q.job, q.model, q.version ORDER BY q.week DESC) AS place FROM scorebeat.quality q"
    " JOIN scorebeat.jobs j ON j.name = q.job AND j.removed_at IS NULL"
    " WHERE j.spec ->> 'truth' IS NOT NULL"
    " AND EXISTS (SELECT FROM scorebeat.prediction_sets s WHERE s.job = q.job AND s.model = q.model"
    " AND s.model_version = q.version AND s.dropped_at IS NULL)"
    # a label of a date to come is a mistake, and its week is not the newest
    f" AND q.{quality.IS_NO_WEEK_TO_COME}) q"
    f" WHERE place <= {1 + WEEKS_BEFORE} ORDER BY job, model, version, place"
)
_QUALITY_FAILED = (
    "SELECT t.job, t.failure IS NOT NULL AS failed FROM scorebeat.truth_readings t JOIN scorebeat.jobs j"
    " ON j.name = t.job WHERE j.removed_at IS NULL AND j.spec ->> 'truth' IS NOT NULL ORDER BY t.job"
)
