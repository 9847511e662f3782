"""The `run_usage` table: device time and CPU time of a run's attempts, by how they ended and by device.

The time of an attempt is the ledger's own: from its claim to the move that ends it. An attempt that commits adds its
time to its batch, in the statement that commits it; a sum that every commit touched would keep other commits waiting.
When the end of the run is noted, the times of its batches are added up here.
"""

from sqlalchemy import Connection, text

from scorebeat.core.queues import PLAN_QUEUE
from scorebeat.core.states import AttemptEnd

HARDWARE = "coalesce(substring(device FROM '[(](.+)[)]$'), device, 'cpu')"
"""SQL: `cpu`, or the model of the GPU, of a device as `batches` and `workers` have it."""
_SHARE = (
    "CASE WHEN starts_with(device, 'cuda') THEN coalesce((SELECT greatest(w.processes, 1) FROM scorebeat.workers w"
    " WHERE w.name = claimed_by), 1) ELSE 1 END"
)
"""SQL: the processes that share the device of a batch: each has its own core, but not its own GPU."""


COMMITTED = (
    "CASE WHEN r.state = 'failed' AND (r.spec ->> 'on_failure' = 'retry-run' OR EXISTS (SELECT FROM scorebeat.actions a"
    f" WHERE a.subject = 'run ' || r.id AND a.action = 'run.discarded')) THEN '{AttemptEnd.DISCARDED}'"
    f" ELSE '{AttemptEnd.COMMITTED}' END"
)
"""SQL: how attempts of run r ended that committed."""
DAY = "(r.created_at AT TIME ZONE 'UTC')::date"
"""SQL: the day on which run r began."""


def device_seconds(until: str = "clock_timestamp()") -> str:
    """SQL for the seconds that the attempt of a batch had its device, from the claim on; 0 if the clock went back."""
    return f"(greatest(extract(epoch FROM {until} - claimed_at), 0)::float8 / {_SHARE})"


def ended(update: str, end: AttemptEnd, *, cpu: str = "0", until: str = "clock_timestamp()") -> str:
    """SQL: two parts of a WITH for an UPDATE of batches that ends attempts and adds up their time, and a SELECT.

    It returns `id, run_id, state`. `cpu` is the CPU seconds of the attempt, if they are known.
    """
    sums = f"count(*), sum(seconds), {cpu}, sum(rows_left) FROM moved"
    return (
        f"moved AS ({update} RETURNING id, run_id, state, {HARDWARE} AS device, {device_seconds(until)} AS seconds,"
        " greatest(rows_planned - rows_scored - rows_failed, 0) AS rows_left),"
        f" used AS ({adding(end, sums)}) SELECT id, run_id, state FROM moved"
    )


def adding(end: AttemptEnd, sums: str) -> str:
    """SQL that adds up rows with `run_id, device` by `sums`: attempts, device seconds, CPU seconds, rows, and FROM.

    What a run committed that failed as a whole is discarded.
    """
    outcome = f"'{end}'" if end is not AttemptEnd.COMMITTED else COMMITTED
    queue = f"'{PLAN_QUEUE}'" if end is AttemptEnd.PLANNED else "r.spec ->> 'queue'"
    return (
        "INSERT INTO scorebeat.run_usage AS u (run_id, outcome, device, job, day, queue, attempts, device_seconds,"
        f" cpu_seconds, rows) SELECT s.run_id, {outcome}, s.device, r.job, {DAY}, {queue}, s.attempts,"
        f" s.device_seconds, s.cpu_seconds, s.rows FROM (SELECT run_id, device, {sums} GROUP BY run_id, device)"
        " AS s (run_id, device, attempts, device_seconds, cpu_seconds, rows) JOIN scorebeat.runs r ON r.id = s.run_id"
        " ORDER BY s.run_id, s.device"
        " ON CONFLICT (run_id, outcome, device) DO UPDATE SET attempts = u.attempts + EXCLUDED.attempts,"
        " device_seconds = u.device_seconds + EXCLUDED.device_seconds,"
        " cpu_seconds = u.cpu_seconds + EXCLUDED.cpu_seconds, rows = u.rows + EXCLUDED.rows"
    )


def of_batches(batches: str, rows: str = "rows_scored") -> str:
    """The `sums` of `adding` for batches whose attempts committed; `batches` is FROM and WHERE."""
    return (
        "count(*), sum(device_seconds), coalesce(sum(cpu_seconds), 0), sum(rows_scored) FROM (SELECT run_id,"
        f" {HARDWARE} AS device, device_seconds, cpu_seconds, {rows} AS rows_scored {batches}"
        " AND device_seconds IS NOT NULL) AS counted"
    )


def repeat(connection: Connection, run_id: int) -> None:
    """The run is begun again: what its batches committed was in vain. The caller resets their own seconds.

    A batch of a failed run counts no scored rows any more, so those that it was planned with are counted.
    """
    rows = "CASE WHEN state = 'committed' THEN rows_planned - rows_failed ELSE rows_scored END"
    sums = of_batches("FROM scorebeat.batches WHERE run_id = :run", rows)
    connection.execute(text(adding(AttemptEnd.REPEATED, sums)), {"run": run_id})


def reopen(connection: Connection, run_id: int) -> None:
    """The run goes on: the times of its batches are added up again when its next end is noted."""
    connection.execute(
        text(
            "UPDATE scorebeat.run_usage SET attempts = 0, device_seconds = 0, cpu_seconds = 0, rows = 0"
            f" WHERE run_id = :run AND outcome IN ('{AttemptEnd.COMMITTED}', '{AttemptEnd.DISCARDED}')"
        ),
        {"run": run_id},
    )


def set_apart(connection: Connection, job: str) -> None:
    """The job is dropped: what its runs used goes by a name of its own, and not by that of a later job."""
    connection.execute(
        text(
            "UPDATE scorebeat.run_usage SET job = :job || to_char(now() AT TIME ZONE 'UTC',"
            ' \'" (dropped "YYYY-MM-DD")"\') WHERE job = :job'
        ),
        {"job": job},
    )


def add(connection: Connection, run_id: int, end: AttemptEnd, device_seconds: float, cpu_seconds: float) -> None:
    """Add what this process measured itself: a plan, or the CPU time of an attempt that had lost its claim."""
    sums = (
        "CAST(:attempts AS bigint), CAST(:seconds AS float8), CAST(:cpu AS float8), 0"
        " FROM (SELECT CAST(:run AS bigint) AS run_id, 'cpu' AS device) AS own"
    )
    values = {"attempts": int(end is AttemptEnd.PLANNED), "seconds": device_seconds, "cpu": cpu_seconds}
    connection.execute(text(adding(end, sums)), {"run": run_id, **values})
