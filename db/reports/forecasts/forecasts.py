"""Forecasts of runs, and the evidence that they rest on: open runs, living workers, earlier runs."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.forecasts import forecast
from scorebeat.core.forecasts.costs import Part
from scorebeat.core.forecasts.evidence import Evidence, History, InProgress, OpenRun, PastRun, Worker
from scorebeat.core.forecasts.forecast import Forecast
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import Rank, RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.processes import workers
from scorebeat.db.reports.pages.job_lines import JobLine
from scorebeat.db.reports.status import RunLine

PARTS = 40
"""Into which the committed batches of a run are summed up."""
LAST_MINUTE = 60.0
LONG_BATCHES = 3
"""Batches of the usual length that fit into the time over which busy processes are counted, at least."""
PAST_RUNS = 10
LOOKED_THROUGH = 300
"""Ended runs of a job among which those are looked for that scored rows."""
DONE = Forecast(unknown="it is over")
"""Of a run that is not open."""


def of_runs(connection: Connection, lines: Iterable[RunLine]) -> dict[int, Forecast]:
    """The forecasts of these runs by their ids; those that are over have `DONE`."""
    listed = list(lines)
    if all(line.is_final for line in listed):
        return dict.fromkeys((line.id for line in listed), DONE)
    known = evidence(connection)
    return {line.id: of_run(known, line.id) for line in listed}


def forecast_fields(found: Forecast) -> dict[str, Any]:
    """A forecast as `runs --json` and a notice have it."""
    return {
        "expected_end_at": found.likely,
        "expected_earliest_at": found.earliest,
        "expected_latest_at": found.latest,
        "no_forecast": None if found is DONE else found.unknown,
    }


def of_run(known: Evidence, run_id: int) -> Forecast:
    return forecast.of_open(known, known.runs[run_id]) if run_id in known.runs else DONE


def evidence(connection: Connection, job: Job | None = None) -> Evidence:
    """What is known now of all open runs, and of a job that has no run yet.

    Reads the batches of open runs, and of ended ones only their sums.
    """
    rows = connection.execute(_OPEN).all()
    parts: dict[int, list[Part]] = {}
    done: dict[int, Any] = {}
    for part in connection.execute(_PARTS, {"parts": PARTS}):
        parts.setdefault(part.run_id, []).append(Part(int(part.rows), max(part.seconds, 0.001)))
        done[part.run_id] = part
    windows = {
        run_id: max(LAST_MINUTE, LONG_BATCHES * sum(one.seconds for one in found) / done[run_id].batches)
        for run_id, found in parts.items()
    }
    claims: dict[int, list[InProgress]] = {}
    for claim in connection.execute(_CLAIMS):
        claims.setdefault(claim.run_id, []).append(InProgress(claim.rows, claim.seconds, claim.claimed_by))
    busy, since, idle = _busy(connection, {row.id: windows.get(row.id, LAST_MINUTE) for row in rows})
    wanted = {(row.job, row.queue, row.model, row.model_version) for row in rows}
    if job is not None:
        wanted.add((job.name, job.queue, job.model_name, job.pinned_version or 0))
    now = database_clock.now(connection)
    runs = {
        row.id: OpenRun(
            id=row.id,
            job=row.job,
            queue=row.queue,
            is_planning=row.state == RunState.PLANNING,
            age=row.age,
            rank=row.rank,
            batch_rows=row.batch_rows,
            rows_done=int(done[row.id].rows_until) if row.id in done else 0,
            rows_open=int(row.rows_open),
            batches_open=row.batches_open,
            first_open=row.first_open,
            last_open=row.last_open,
            since_last_commit=(now - done[row.id].until).total_seconds() if row.id in done else None,
            parts=tuple(parts.get(row.id, ())),
            batches_done=done[row.id].batches if row.id in done else 0,
            claims=tuple(claims.get(row.id, ())),
            busy=busy.get(row.id, {}),
            busy_since=since.get(row.id, 0.0),
            idle=idle.get(row.id, {}),
            most_rows=row.most_rows,
            is_filtered=row.is_filtered,
        )
        for row in rows
    }
    alive = tuple(
        Worker(
            worker["name"],
            frozenset(worker["queues"]),
            worker["processes"] or 1,
            (now - worker["started_at"]).total_seconds(),
        )
        for worker in workers.alive(connection)
    )
    return Evidence(now, runs, alive, histories(connection, wanted))


def histories(connection: Connection, wanted: Iterable[tuple[str, str, str, int]]) -> dict[tuple[str, str], History]:
    """Earlier runs by job and queue; of the model version if it has any, else of all versions."""
    listed = sorted(set(wanted))
    found: dict[tuple[str, str], list[tuple[bool, PastRun]]] = {}
    columns = zip(*listed, strict=True) if listed else ((), (), (), ())
    names = ("jobs", "queues", "models", "versions")
    values: dict[str, Any] = {name: list(column) for name, column in zip(names, columns, strict=True)}
    values |= {"most": PAST_RUNS, "through": LOOKED_THROUGH}
    for row in connection.execute(_HISTORY, values):
        past = PastRun(
            int(row.rows_scored), row.busy_seconds, row.wait_seconds, row.planning, row.span_seconds,
            max(0.0, row.took - row.wait_seconds - row.span_seconds), row.processes,
        )  # fmt: skip
        found.setdefault((row.job, row.queue), []).append((row.is_same, past))
    return {
        key: History(tuple(past for is_same, past in runs if is_same or not any(same for same, _ in runs)))
        for key, runs in found.items()
    }


def needed_at(job: JobLine | None, deadline_at: datetime | None, rank: int) -> datetime | None:
    """When the results of an open run are promised: by its deadline, or its job's `results_by`; None if nothing is.

    A candidate's results are not those that `results_by` is about.
    """
    by_time = job.needed_by if job is not None and job.job.results_by is not None and rank < Rank.CANDIDATE else None
    return min(filter(None, (deadline_at, by_time)), default=None)


def _busy(
    connection: Connection, windows: Mapping[int, float]
) -> tuple[dict[int, dict[str, float]], dict[int, float], dict[int, dict[str, float]]]:
    """By run and worker: how many processes had a batch at a time, since the first of these claims, or so many seconds
    back; these seconds by run; and by run and worker the seconds since the last batch."""
    values = {"runs": list(windows), "seconds": list(windows.values())}
    rows = connection.execute(_BUSY, values).all()
    since: dict[int, float] = {}
    for row in rows:
        since[row.run_id] = max(since.get(row.run_id, 0.001), row.since)
    busy: dict[int, dict[str, float]] = {}
    for row in rows:
        busy.setdefault(row.run_id, {})[row.claimed_by] = row.busy / since[row.run_id]
    idle: dict[int, dict[str, float]] = {}
    for row in rows:
        idle.setdefault(row.run_id, {})[row.claimed_by] = row.idle
    return busy, since, idle


_IS_OPEN = "r.state IN ('planning', 'running')"
_OPEN = text(
    "SELECT r.id, r.job, r.model, r.model_version, r.state, r.rank, r.spec ->> 'queue' AS queue,"
    " CAST(r.spec ->> 'batch_rows' AS int) AS batch_rows, coalesce(r.row_limit, jsonb_array_length(r.row_keys))"
    " AS most_rows, r.row_filter IS NOT NULL AS is_filtered,"
    " extract(epoch FROM clock_timestamp() - r.created_at)::float8 AS age, b.* FROM scorebeat.runs r"
    " CROSS JOIN LATERAL (SELECT coalesce(sum(rows_planned - rows_scored - rows_failed), 0) AS rows_open,"
    " count(*) AS batches_open, coalesce(min(id), 0) AS first_open, coalesce(max(id), 0) AS last_open"
    f" FROM scorebeat.batches WHERE run_id = r.id AND state IN ('pending', 'claimed')) b WHERE {_IS_OPEN} ORDER BY r.id"
)
_PARTS = text(
    "SELECT run_id, rows, seconds, sum(rows) OVER earlier AS rows_until, (sum(batches) OVER earlier)::int AS batches,"
    " until FROM (SELECT run_id, part, sum(rows) AS rows, extract(epoch FROM sum(took))::float8 AS seconds,"
    " count(*) AS batches, max(finished_at) AS until FROM (SELECT b.run_id, b.rows_scored + b.rows_failed AS rows,"
    " b.finished_at, b.finished_at - b.claimed_at AS took,"
    " ntile(:parts) OVER (PARTITION BY b.run_id ORDER BY b.finished_at, b.id) AS part"
    " FROM scorebeat.runs r JOIN scorebeat.batches b ON b.run_id = r.id"
    f" WHERE {_IS_OPEN} AND b.state = 'committed' AND b.claimed_at IS NOT NULL AND b.rows_scored + b.rows_failed > 0)"
    " AS done GROUP BY run_id, part) AS parts"
    " WINDOW earlier AS (PARTITION BY run_id ORDER BY part) ORDER BY run_id, part"
)
_CLAIMS = text(
    "SELECT b.run_id, b.rows_planned - b.rows_scored - b.rows_failed AS rows, b.claimed_by,"
    " extract(epoch FROM clock_timestamp() - b.claimed_at)::float8 AS seconds"
    " FROM scorebeat.batches b WHERE b.state = 'claimed' AND b.claimed_at IS NOT NULL AND b.claimed_by IS NOT NULL"
)
_BUSY = text(
    "SELECT run_id, claimed_by, extract(epoch FROM sum(until - began))::float8 AS busy,"
    " extract(epoch FROM clock_timestamp() - min(began))::float8 AS since,"
    " extract(epoch FROM clock_timestamp() - max(until))::float8 AS idle FROM (SELECT b.run_id, b.claimed_by,"
    " greatest(b.claimed_at, clock_timestamp() - w.seconds * interval '1 second') AS began,"
    " coalesce(b.finished_at, clock_timestamp()) AS until"
    " FROM unnest(CAST(:runs AS bigint[]), CAST(:seconds AS float8[])) AS w(run_id, seconds)"
    " JOIN scorebeat.batches b ON b.run_id = w.run_id WHERE b.claimed_at IS NOT NULL AND b.claimed_by IS NOT NULL"
    " AND (b.state = 'claimed' OR (b.state = 'committed'"
    " AND b.finished_at > clock_timestamp() - w.seconds * interval '1 second'))) AS held"
    " GROUP BY run_id, claimed_by"
)
_HISTORY = text(
    "SELECT w.job, w.queue, h.* FROM unnest(CAST(:jobs AS text[]), CAST(:queues AS text[]), CAST(:models AS text[]),"
    " CAST(:versions AS int[])) AS w(job, queue, model, version) CROSS JOIN LATERAL (SELECT s.rows_scored,"
    " s.busy_seconds, s.wait_seconds, s.span_seconds, s.processes,"
    " extract(epoch FROM r.finished_at - r.created_at)::float8 AS took,"
    " extract(epoch FROM coalesce(r.planned_at, r.created_at) - r.created_at)::float8 AS planning,"
    " r.model = w.model AND w.version IN (0, r.model_version) AS is_same FROM (SELECT * FROM scorebeat.runs"
    " WHERE job = w.job AND state IN ('succeeded', 'partial') ORDER BY id DESC LIMIT :through) r"
    " JOIN scorebeat.run_sums s ON s.run_id = r.id WHERE s.rows_scored > 0 AND s.processes > 0 AND r.tries = 1"
    # of one that went on later its end is not that of its batches
    " AND num_nonnulls(r.row_limit, r.row_filter, r.row_keys) = 0 AND NOT EXISTS (SELECT FROM scorebeat.actions a"
    " WHERE a.subject = 'run ' || r.id AND a.action IN ('run.requeued', 'run.released'))"
    " AND r.spec ->> 'queue' = w.queue ORDER BY is_same DESC, r.id DESC LIMIT :most) h"
)
