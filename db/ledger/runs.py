"""Run rows: every statement that moves a run between states."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import Rank, RunState
from scorebeat.db.connect.sql import Key
from scorebeat.db.records import audit, usage
from scorebeat.db.schema.tables import runs
from scorebeat.db.source.values.parameter_values import RunValues


@dataclass(frozen=True)
class Selection:
    """Which of the pending rows `enqueue` selected; empty for a scheduled run."""

    limit: int | None = None
    where: str | None = None
    keys: tuple[Key, ...] | None = None


EVERYTHING = Selection()
"""All pending rows."""
BEAT = "beat"
"""The value of `created_by` for runs of ticks."""
IS_TICK = f"(r.due_at IS NOT NULL AND r.created_by = '{BEAT}')"
"""SQL condition: the schedule made run r; another run with a due time was made by hand."""


def is_tick(due_at: datetime | None, by: str) -> bool:
    """`IS_TICK` in Python, for a run with these values."""
    return due_at is not None and by == BEAT


@dataclass(frozen=True)
class Run:
    """A run with the settings that its job had when it began."""

    id: int
    job: Job
    model: str
    model_version: int
    prediction_set_id: int
    """0 if a tick failed before there was one."""
    state: RunState
    selection: Selection
    set_was_empty: bool | None
    plan_attempt: int
    tries: int
    reason: str | None
    plan_is_whole: bool
    """Its planner reached the end of the rows."""
    values: RunValues
    """The same for all its batches and attempts."""
    is_tick: bool
    """The scheduler made it, not a person."""
    snapshot_rows: int | None = None
    """Rows of its snapshot when that was made; None: it reads the query."""

    def attempts(self, most: int) -> int:
        """Attempts that each of its batches has: one if the job leaves failed batches alone."""
        return 1 if self.job.on_failure == "leave" else most

    @property
    def where_to_read(self) -> str | None:
        """The condition for the rows that batches read; of a snapshot all are wanted."""
        return self.selection.where if self.snapshot_rows is None else None

    @property
    def makes_generation(self) -> bool:
        """It scores every row of the query anew, for readers to see instead of all predictions from before."""
        return self.job.rescore == "every-run" and self.selection == EVERYTHING


@dataclass(frozen=True)
class Start:
    """A run to be opened."""

    job: Job
    model: str
    model_version: int
    prediction_set_id: int | None
    """None: a run that failed before there was one."""
    by: str
    due_at: datetime | None = None
    run_key: str | None = None
    selection: Selection = EVERYTHING
    rank: Rank = Rank.SCHEDULED

    @property
    def is_tick(self) -> bool:
        return is_tick(self.due_at, self.by)


def start(connection: Connection, wanted: Start, lease: timedelta) -> int | None:
    """Open a run in `planning`; None if the job has an open run for this model version."""
    return connection.execute(
        text(
            "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, spec, created_by, due_at,"
            " run_key, row_limit, row_filter, row_keys, rank, deadline_at, plan_expires_at)"
            " VALUES (:job, :model, :version, :set_id, :spec, :by, :due_at, :run_key, :limit, :where, :keys, :rank,"
            " coalesce(CAST(:tick_at AS timestamptz), now()) + CAST(:deadline AS interval), now() + :lease)"
            " ON CONFLICT (job, model, model_version) WHERE state IN ('planning', 'running') DO NOTHING"
            " RETURNING id"
        ).bindparams(bindparam("spec", type_=JSONB), bindparam("keys", type_=JSONB(none_as_null=True))),
        {
            **_common_values(wanted),
            "tick_at": wanted.due_at if wanted.is_tick else None,
            "run_key": wanted.run_key,
            "limit": wanted.selection.limit,
            "where": wanted.selection.where,
            "keys": wanted.selection.keys,
            "rank": wanted.rank,
            "lease": lease,
        },
    ).scalar_one_or_none()


def _common_values(wanted: Start) -> dict[str, Any]:
    """The values that a run has whether it begins or could not begin."""
    return {
        "job": wanted.job.name,
        "model": wanted.model,
        "version": wanted.model_version,
        "set_id": wanted.prediction_set_id,
        "spec": wanted.job.model_dump(mode="json"),
        "by": wanted.by,
        "due_at": wanted.due_at,
        "deadline": wanted.job.deadline,
    }


AGAIN_FIRST = timedelta(seconds=10)
AGAIN_AT_MOST = timedelta(minutes=10)
"""Pauses between the attempts to begin a run for a due time; they grow with its age."""


def start_failed(connection: Connection, wanted: Start, reason: str, *, again: bool) -> int:
    """Record a run that could not begin; `again`: another run is tried for the same due time."""
    return int(
        connection.execute(
            text(
                "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by,"
                " due_at, deadline_at, finished_at, reason, retry_at) VALUES (:job, :model, :version, :set_id,"
                " 'failed', :spec, :by, :due_at, CAST(:due_at AS timestamptz) + CAST(:deadline AS interval),"
                " clock_timestamp(), :reason, clock_timestamp() + CAST(:again AS interval)) RETURNING id"
            ).bindparams(bindparam("spec", type_=JSONB)),
            {
                **_common_values(wanted),
                "reason": reason,
                "again": AGAIN_FIRST if again else None,
            },
        ).scalar_one()
    )


@dataclass(frozen=True)
class NotBegun:
    """A run that failed before it began, and whose due time is tried again."""

    id: int
    job: str
    due_at: datetime


def to_begin_again(connection: Connection) -> list[int]:
    """Runs that could not begin and are due to be tried again: only the newest of a job, which has the rows of all."""
    rows = connection.execute(
        text(
            "SELECT r.id FROM scorebeat.jobs j CROSS JOIN LATERAL (SELECT id, retry_at FROM scorebeat.runs"
            " WHERE job = j.name ORDER BY id DESC LIMIT 1) r"
            " WHERE j.removed_at IS NULL AND r.retry_at <= clock_timestamp() ORDER BY r.id"
        )
    )
    return list(rows.scalars())


def take_not_begun(connection: Connection, run_id: int) -> NotBegun | None:
    """Lock such a run; None if somebody else has it, or it was tried meanwhile."""
    row = connection.execute(
        text(
            "SELECT id, job, due_at FROM scorebeat.runs WHERE id = :id AND retry_at <= clock_timestamp()"
            " FOR NO KEY UPDATE SKIP LOCKED"
        ),
        {"id": run_id},
    ).one_or_none()
    return NotBegun(**row._mapping) if row is not None else None


def begin_later(connection: Connection, run_id: int, reason: str | None = None) -> None:
    """It still cannot begin, for this `reason` (None: the same as before); tried again after a pause that grows."""
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET reason = coalesce(:reason, reason), retry_at = clock_timestamp()"
            " + least(greatest((clock_timestamp() - created_at) / 2, CAST(:first AS interval)),"
            " CAST(:most AS interval)) WHERE id = :id"
        ),
        {"id": run_id, "reason": reason, "first": AGAIN_FIRST, "most": AGAIN_AT_MOST},
    )


def begin_no_more(connection: Connection, run_id: int) -> None:
    """Try no more: another run was opened for its due time, or there is no time left."""
    connection.execute(text("UPDATE scorebeat.runs SET retry_at = NULL WHERE id = :id"), {"id": run_id})


def open_run(connection: Connection, job: str, model: str, version: int) -> int | None:
    """The open run of this job and model version, or None."""
    return connection.execute(
        select(runs.c.id).where(
            runs.c.job == job,
            runs.c.model == model,
            runs.c.model_version == version,
            runs.c.state.in_([RunState.PLANNING, RunState.RUNNING]),
        )
    ).scalar_one_or_none()


def open_of_version(connection: Connection, model: str, version: int) -> list[int]:
    """Open runs of all jobs that score this version."""
    is_open = runs.c.state.in_([RunState.PLANNING, RunState.RUNNING])
    wanted = select(runs.c.id).where(runs.c.model == model, runs.c.model_version == version, is_open)
    return list(connection.scalars(wanted.order_by(runs.c.id)))


def open_of_job(connection: Connection, job: str) -> list[int]:
    """Open runs of the job, of all versions."""
    is_open = runs.c.state.in_([RunState.PLANNING, RunState.RUNNING])
    return list(connection.scalars(select(runs.c.id).where(runs.c.job == job, is_open).order_by(runs.c.id)))


def by_key(connection: Connection, run_key: str) -> Run | None:
    """The run that was made with this `--run-key`, or None."""
    found = connection.execute(select(runs.c.id).where(runs.c.run_key == run_key)).scalar_one_or_none()
    return get(connection, found) if found is not None else None


def get(connection: Connection, run_id: int, *, lock: bool = False) -> Run:
    """One run. Raises UnknownName."""
    wanted = select(runs).where(runs.c.id == run_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise UnknownName(f"there is no run {run_id}; `scorebeat runs` lists them")
    values = row._mapping
    keys = tuple(tuple(key) for key in values["row_keys"]) if values["row_keys"] is not None else None
    return Run(
        id=values["id"],
        job=Job.model_validate(values["spec"]),
        model=values["model"],
        model_version=values["model_version"],
        prediction_set_id=values["prediction_set_id"] or 0,
        state=RunState(values["state"]),
        selection=Selection(values["row_limit"], values["row_filter"], keys),
        set_was_empty=values["set_was_empty"],
        plan_attempt=values["plan_attempt"],
        tries=values["tries"],
        reason=values["reason"],
        plan_is_whole=values["plan_is_whole"],
        values=RunValues(values["due_at"] or values["created_at"], values["id"]),
        is_tick=is_tick(values["due_at"], values["created_by"]),
        snapshot_rows=values["snapshot_rows"],
    )


def note_snapshot(connection: Connection, run_id: int, rows: int) -> None:
    """Record how many rows its snapshot has. The caller holds the planning lease in this transaction."""
    connection.execute(
        text("UPDATE scorebeat.runs SET snapshot_rows = :rows WHERE id = :id"), {"id": run_id, "rows": rows}
    )


def fail(connection: Connection, run_id: int, reason: str) -> bool:
    """An open run fails as a whole; the caller cancels its batches."""
    return _close(connection, run_id, RunState.FAILED, reason)


def cancel(connection: Connection, run_id: int, by: str) -> bool:
    """A person stops an open run; the caller cancels its batches."""
    moved = _close(connection, run_id, RunState.CANCELLED, f"cancelled by {by}")
    if moved:
        audit.record(connection, by, "run.cancelled", f"run {run_id}")
    return moved


def hold(connection: Connection, run_id: int, reason: str) -> None:
    """A run that has just ended waits for a person before readers see it."""
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'held', reason = :reason"
            " WHERE id = :id AND state IN ('succeeded', 'partial')"
        ),
        {"id": run_id, "reason": reason},
    )


def held_before(connection: Connection, job: Job, model: str, version: int) -> int | None:
    """A held run that must be decided on before another one of the job and version goes on; None if none is.

    What a run over the seen set scored is hidden among the set's rows, and would be seen with those of the other. A
    held generation stands by itself if the job makes one in each run; else it lacks what other runs add meanwhile.
    """
    found: int | None = connection.execute(
        text(
            "SELECT max(id) FROM scorebeat.runs WHERE job = :job AND model = :model AND model_version = :version"
            " AND state = 'held' AND (:rescore = 'never' OR spec ->> 'rescore' IS DISTINCT FROM 'every-run')"
        ),
        {"job": job.name, "model": model, "version": version, "rescore": job.rescore},
    ).scalar_one()
    return found


def require_none_held(connection: Connection, *, job: str | None = None, model: str | None = None) -> None:
    """Raises UsageError if a run of the job, or of the model, is held: then nothing of either may be dropped."""
    found = connection.execute(
        text(
            "SELECT id FROM scorebeat.runs WHERE state = 'held' AND (CAST(:job AS text) IS NULL OR job = :job)"
            " AND (CAST(:model AS text) IS NULL OR model = :model) ORDER BY id DESC LIMIT 1"
        ),
        {"job": job, "model": model},
    ).scalar_one_or_none()
    if found is not None:
        raise UsageError(
            f"run {found} is held by the gate of its job. Nothing was changed; decide first: `scorebeat release "
            f"{found}` shows it, `scorebeat discard {found}` drops it"
        )


def release(connection: Connection, run_id: int) -> None:
    """A held run ends once more, to be shown. The caller closes it in the same transaction."""
    _open_again(connection, run_id, RunState.HELD)


def discard(connection: Connection, run_id: int, reason: str) -> None:
    """A held run fails: what it scored is not shown."""
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'failed', reason = :reason, noted_at = NULL"
            " WHERE id = :id AND state = 'held'"
        ),
        {"id": run_id, "reason": reason},
    )
    usage.reopen(connection, run_id)


def reopen(connection: Connection, run_id: int) -> bool:
    """Open a finished run again, whose batches a requeue put back."""
    return _open_again(connection, run_id, RunState.PARTIAL, RunState.FAILED)


def _open_again(connection: Connection, run_id: int, *states: RunState) -> bool:
    """A run in one of these states is running again; what its batches took is added up at its next end."""
    moved = connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'running', finished_at = NULL, noted_at = NULL, reason = NULL"
            " WHERE id = :id AND state = ANY (:states)"
        ),
        {"id": run_id, "states": [state.value for state in states]},
    )
    if moved.rowcount:
        usage.reopen(connection, run_id)
    return moved.rowcount == 1


def _close(connection: Connection, run_id: int, state: RunState, reason: str) -> bool:
    moved = connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = :state, reason = :reason, plan_expires_at = NULL,"
            " finished_at = clock_timestamp() WHERE id = :id AND state IN ('planning', 'running')"
        ),
        {"id": run_id, "state": state, "reason": reason},
    )
    return moved.rowcount == 1
