"""Opens a run, by hand or for a tick. The ledger allows one open run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from scorebeat.broker.send import send
from scorebeat.core.errors import RunHeld, RunOpen, SourceLocked, UsageError, require_short
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.parameters import DUE_AT, other_values
from scorebeat.core.queues import PLAN
from scorebeat.core.states import Rank
from scorebeat.db.connect import locks
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions, runs
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.ledger.runs import EVERYTHING, Selection, Start
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source.values import parameter_values as parameters
from scorebeat.db.source.values.parameter_values import RunValues, of_no_run
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import prediction_tables

LONGEST_RUN_KEY = 200
_BLANK_KEY = (
    "the run key is blank: every later run with a blank key would return the first run, and score nothing. "
    "Nothing was enqueued; give a name such as nightly-2026-07-01, or leave the run key out"
)


@dataclass(frozen=True)
class Request:
    """A request for a run, by a person, a scheduler or a tick."""

    job: str
    by: str
    version: int | None = None
    """None: the version that the job follows."""
    selection: Selection = EVERYTHING
    run_key: str | None = None
    due_at: datetime | None = None
    """The due time of the tick; by hand, the value of `:due_at` in the query. None: by hand, and `:due_at` is now."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Values of the job's parameters for this run alone, as a person types them."""
    anew: bool = False
    """Score every row, also those with a prediction, into a new set, which readers see when it is complete."""

    @property
    def is_tick(self) -> bool:
        return runs.is_tick(self.due_at, self.by)


@dataclass(frozen=True)
class Enqueued:
    run_id: int
    is_new: bool
    """False: the `run_key` had made this run before."""


def enqueue(p: Producer, request: Request) -> Enqueued:
    """Open a run and send its plan.

    Raises RunOpen, which names the open run; UsageError for a blank run key, for no rows, for a selection scored anew,
    or for a due time or parameter that the query does not use; UnknownName; QueryError; SignatureError; or
    NotPermitted if all rows are scored anew. Then nothing was changed.
    """
    if request.anew and request.selection != EVERYTHING:
        raise UsageError(
            "rows are scored anew all together, because readers see the new predictions when they are whole. Nothing "
            "was enqueued; leave out what selects some of them"
        )
    limit, keys = request.selection.limit, request.selection.keys
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} means no row, and the run would succeed with none. Nothing was enqueued")
    if keys is not None and not keys:
        raise UsageError("the list of keys is empty, and the run would succeed with no row. Nothing was enqueued")
    if request.run_key is not None and not request.run_key.strip():
        raise UsageError(_BLANK_KEY)
    if request.run_key is not None:
        require_short("the run key", request.run_key, LONGEST_RUN_KEY)
    with reachable(p.url), p.engine.begin() as connection:
        if request.run_key is not None:
            jobs.get(connection, request.job, lock=True)  # a simultaneous repeat waits here, and then finds the run
            before = runs.by_key(connection, request.run_key)
            if before is not None:
                return Enqueued(_same_job(before, request), is_new=False)
        run_id = open_run(p, connection, request)
    send_plan(p, run_id)
    return Enqueued(run_id, is_new=True)


def open_run(p: Producer, connection: Connection, request: Request) -> int:
    """Open a run in the caller's transaction. The caller sends the plan after its commit."""
    job = _with_parameters(connection, jobs.get(connection, request.job, lock=True).job, request)
    version = (
        model_versions.get(connection, job.model_name, request.version)
        if request.version is not None
        else model_versions.of_job(connection, job)
    )
    already = runs.open_run(connection, job.name, version.name, version.version)
    if already is not None:
        raise _is_open(connection, job.name, already)
    locks.wait_at_most(connection, locks.IN_CONTROL if request.is_tick else locks.FOR_A_PERSON)
    values = of_no_run(connection, request.due_at)
    _require_none_held(connection, job, version)
    shown = _shown_set(connection, request, job, version, values)
    if request.anew and job.rescore == "never":
        target = prediction_tables.for_run_anew(connection, prediction_tables.fit_now(connection, job, version, values))
        job = job.model_copy(update={"rescore": "every-run"})  # for this run alone: it is shown as a generation
    else:
        target = prediction_tables.for_run(connection, job, shown)
    wanted = Start(
        job=job,
        model=version.name,
        model_version=version.version,
        prediction_set_id=target.id,
        by=request.by,
        due_at=request.due_at,
        run_key=request.run_key,
        selection=request.selection,
        rank=_rank(connection, request, job),
    )
    run_id = runs.start(connection, wanted, p.settings.claim_ttl)
    if run_id is None:
        raise RunOpen(f"job {job.name!r} has an open run already; `scorebeat runs` shows it")
    emit("run.opened", run=run_id, job=job.name, model=str(version), by=request.by)
    return run_id


def _require_none_held(connection: Connection, job: Job, version: Version) -> None:
    """Raises RunHeld if a person has to decide on another run first."""
    held = runs.held_before(connection, job, version.name, version.version)
    if held is not None:
        raise RunHeld(
            f"run {held} of job {job.name} is held by its gate, and no other run begins before a person decides: "
            f"`scorebeat release {held}` shows it, `scorebeat discard {held}` drops it. Nothing was enqueued"
        )


def _with_parameters(connection: Connection, job: Job, request: Request) -> Job:
    """The job with this run's parameters. Raises UsageError for a value that would change nothing."""
    if request.due_at is not None and not request.is_tick and DUE_AT not in parameters.names(connection, job):
        raise UsageError(
            f"the query of job {job.name!r} does not use :{DUE_AT}, so it gives the same rows for any due time. "
            "Nothing was enqueued; leave the due time out"
        )
    if not request.parameters:
        return job
    return job.model_copy(update={"parameters": other_values(job.name, job.parameters, request.parameters)})


def _shown_set(
    connection: Connection, request: Request, job: Job, version: Version, values: RunValues
) -> PredictionSet:
    """The version's set that readers see, after a check that the query fits.

    A tick does not wait for a lock on a table of the query: the planner checks too, and keeps nobody waiting.
    """
    try:
        return prediction_tables.ensure(connection, prediction_tables.fit_now(connection, job, version, values))
    except SourceLocked as locked:
        if not request.is_tick:
            raise SourceLocked(f"{locked}. Nothing was enqueued; try again when it is free") from None
        found = prediction_sets.shown(connection, job, version.version)
        if found is None:
            raise
        return found


def send_plan(p: Producer, run_id: int) -> None:
    """Wake a planner. If the message is lost, rescue sends it again after the lease has expired."""
    send(p.app, PLAN, [run_id])


def _rank(connection: Connection, request: Request, job: Job) -> Rank:
    if request.version not in (None, model_versions.shown_of(connection, job)):
        return Rank.CANDIDATE
    by_hand = not request.is_tick and request.run_key is None
    return Rank.BY_HAND if by_hand else Rank.SCHEDULED


def _is_open(connection: Connection, job: str, run_id: int) -> RunOpen:
    state = runs.get(connection, run_id).state
    return RunOpen(
        f"job {job!r} has an open run already: run {run_id} is {state}. Nothing was enqueued; watch it with "
        f"`scorebeat watch {run_id}`, or stop it with `scorebeat cancel {run_id}`."
    )


def _same_job(before: runs.Run, request: Request) -> int:
    if before.job.name != request.job:
        raise UsageError(
            f"run key {request.run_key!r} made run {before.id} of job {before.job.name!r}, not of {request.job!r}; "
            "choose another key"
        )
    if request.due_at not in (None, before.values.due_at):
        raise UsageError(
            f"run key {request.run_key!r} made run {before.id} for {before.values.due_at.isoformat()}, not for "
            f"{request.due_at}; choose another key"
        )
    return before.id
