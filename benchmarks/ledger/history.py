"""A ledger as it is after months: old runs with their batches, sums and bad rows, made by INSERT ... SELECT."""

import time
from dataclasses import dataclass

from sqlalchemy import Engine

OLDEST_DAYS = 180


@dataclass(frozen=True)
class History:
    """How much there is, spread evenly over all jobs and over the last `OLDEST_DAYS`."""

    batches: int = 1_000_000
    batches_a_run: int = 100
    idle: int = 10_000
    """Ticks that found nothing, the newest of all runs: a week of a job that is due each minute."""

    @property
    def runs(self) -> int:
        return self.batches // self.batches_a_run

    def __str__(self) -> str:
        return (
            f"{self.batches:,} old batches in {self.runs:,} runs of {self.batches_a_run} over {OLDEST_DAYS} days; one "
            f"run of 50 is partial, with a dead batch; one batch of 1,000 has 3 rows in quarantine; then "
            f"{self.idle:,} ticks that found nothing. Nothing is pruned"
        )


def fill(engine: Engine, size: History) -> float:
    """Make it, for the jobs and prediction sets that the ledger has. Returns the seconds that it took."""
    began = time.monotonic()
    numbers = {"runs": size.runs, "each": size.batches_a_run, "idle": size.idle, "days": OLDEST_DAYS}
    with engine.begin() as connection:
        # no foreign key is looked up a million times; the rows are right by the way that they are made
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in _STATEMENTS:
            connection.exec_driver_sql(statement.format(**numbers, sets=_SETS))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")
    return time.monotonic() - began


_SETS = """(SELECT s.id AS set_id, s.job, s.model, s.model_version, j.spec, count(*) OVER () AS sets,
    row_number() OVER (ORDER BY s.job) - 1 AS place
    FROM scorebeat.prediction_sets s JOIN scorebeat.jobs j ON j.name = s.job) s"""
_RUNS = """
    INSERT INTO scorebeat.runs (id, job, model, model_version, prediction_set_id, state, spec, created_at, created_by,
        due_at, plan_attempt, planned_by, set_was_empty, planned_at, finished_at, reason, noted_at, plan_is_whole)
    SELECT n, s.job, s.model, s.model_version, s.set_id, state, s.spec, began, 'beat',
        began, 1, 'plan', false, began + took / 60, began + took,
        CASE WHEN state = 'partial' THEN '1 of {each} batches are dead' END, began + took, true
    FROM (SELECT n, now() - interval '{days} days' * (1 - n::float8 / ({runs} + {idle} + 1)) AS began,
        CASE WHEN n <= {runs} THEN interval '5 min' ELSE interval '1 s' END AS took,
        CASE WHEN n <= {runs} AND n % 50 = 0 THEN 'partial' ELSE 'succeeded' END AS state
        FROM generate_series(1, {runs} + {idle}) n) r
    JOIN {sets} ON s.place = CASE WHEN n <= {runs} THEN n % s.sets ELSE s.sets - 1 END"""
"""The idle ones are of one job, the last by name."""
_BATCHES = """
    INSERT INTO scorebeat.batches (id, run_id, number, queue, state, rows_planned, rows_scored, rows_failed,
        first_key, last_key, attempt, attempts_left, claimed_by, claimed_at, finished_at, error, fetch_seconds,
        predict_seconds, commit_seconds, device, claimed_pid, pending_at, device_seconds, cpu_seconds)
    SELECT (r.id - 1) * {each} + n, r.id, n, 'cpu', CASE WHEN dead THEN 'dead' ELSE 'committed' END, 10000,
        CASE WHEN dead THEN 0 ELSE 10000 - bad END, bad,
        jsonb_build_array((n * 10000)::text), jsonb_build_array((n * 10000 + 9999)::text),
        1, CASE WHEN dead THEN 0 ELSE 4 END, 'cpu@host-' || n % 9 || '/4f1c',
        r.created_at + n * interval '2 s', r.created_at + n * interval '2 s' + interval '3 s',
        CASE WHEN dead THEN 'MemoryError: the model needs more' END,
        0.2, 2.5, 0.3, 'cpu', 1000 + n, r.created_at, 3, 2.9
    FROM scorebeat.runs r CROSS JOIN LATERAL (SELECT n, r.state = 'partial' AND n = 1 AS dead,
        CASE WHEN (r.id * {each} + n) % 1000 = 7 THEN 3 ELSE 0 END AS bad FROM generate_series(1, {each}) n) b
    WHERE r.id <= {runs}"""
_QUARANTINE = """
    INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, quarantined_at)
    SELECT r.prediction_set_id, b.id, jsonb_build_array((b.id * 10 + n)::text), 'ValueError', 'input contains NaN',
        b.finished_at
    FROM scorebeat.batches b JOIN scorebeat.runs r ON r.id = b.run_id CROSS JOIN generate_series(1, 3) n
    WHERE b.rows_failed > 0 AND b.state = 'committed'"""
_SUMS = """
    INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts, rows_failed,
        wait_seconds, span_seconds, busy_seconds, processes)
    SELECT id, job, state, CASE WHEN found THEN {each} * 10000 ELSE 0 END, CASE WHEN found THEN {each} ELSE 0 END, 0,
        CASE WHEN found THEN 1.0 END, CASE WHEN found THEN 290.0 END, CASE WHEN found THEN {each} * 3.0 END,
        CASE WHEN found THEN 8 END
    FROM (SELECT *, id <= {runs} AS found FROM scorebeat.runs) r"""
_USAGE = """
    INSERT INTO scorebeat.run_usage (run_id, outcome, device, job, day, queue, attempts, device_seconds, cpu_seconds,
        rows)
    SELECT id, outcome, 'cpu', job, created_at::date, queue, {each}, {each} * 3.0, {each} * 2.9, {each} * 10000
    FROM scorebeat.runs CROSS JOIN (VALUES ('committed', 'cpu'), ('planned', 'plan')) AS o (outcome, queue)
    WHERE id <= {runs}"""
_ACTIONS = """
    INSERT INTO scorebeat.actions (at, by, action, subject) SELECT created_at, 'beat', 'tick.skipped', 'job ' || job
    FROM scorebeat.runs WHERE id % 10 = 0
    UNION ALL SELECT finished_at, 'ann', 'run.requeued', 'run ' || id FROM scorebeat.runs WHERE state = 'partial'"""
_NUMBERS = """
    SELECT setval(pg_get_serial_sequence('scorebeat.runs', 'id'), {runs} + {idle} + 1, false),
        setval(pg_get_serial_sequence('scorebeat.batches', 'id'), {runs} * {each} + 1, false)"""
_STATEMENTS = (_RUNS, _BATCHES, _QUARANTINE, _SUMS, _USAGE, _ACTIONS, _NUMBERS)
