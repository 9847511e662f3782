"""Makes the prediction sets and views of jobs, for a new job, model or published version."""

from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import SignatureError
from scorebeat.core.jobs.job import Job
from scorebeat.db.closing import atomic_runs
from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.predictions import (
    generation_keys,
    prediction_sets,
    set_drops,
    stored_changes,
    stored_keys,
    views,
)
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.processes import workers
from scorebeat.db.source import source
from scorebeat.db.source.selection import snapshot
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.parameter_values import RunValues
from scorebeat.models.contract import Signature
from scorebeat.models.inputs.binding import Binding, bind


@dataclass(frozen=True)
class Fit:
    """A job's query and a model version that fit each other."""

    job: Job
    version: Version
    source: Source
    signature: Signature
    binding: Binding


def fit(connection: Connection, url: str, job: Job, version: Version) -> Fit:
    """Check a job that is new or changed, query and version against each other. Raises QueryError or SignatureError."""
    return _bound(source.describe(connection, url, job), job, version)


def fit_now(connection: Connection, job: Job, version: Version, values: RunValues) -> Fit:
    """Check a job of the ledger again, with its tables as they are now. Raises QueryError or SignatureError."""
    return _bound(source.read_columns(connection, job, values), job, version)


def _bound(found: Source, job: Job, version: Version) -> Fit:
    signature = Signature.from_json(version.signature)
    try:
        binding = bind(signature, found.columns)
    except SignatureError as error:
        raise SignatureError(f"jobs.{job.name}: the query does not fit model {version}: {error}") from None
    if job.snapshot:
        snapshot.require_storable(job, found, binding.columns)
    return Fit(job, version, found, signature, binding)


def ensure(connection: Connection, fitted: Fit) -> PredictionSet:
    """The set for this job and version, with its table, and the job's view if it has none yet.

    If a key became wider in the user's tables, it becomes wider in the set's table, too. If the job has `changed_at` or
    `keep_history` now, the table gets that column, or a table beside it.
    """
    made = prediction_sets.ensure(
        connection, fitted.source, fitted.job, fitted.version.version, fitted.signature.outputs
    )
    generation_keys.finish(connection, made)
    stored_keys.make_room(connection, fitted.source, made)
    stored_changes.make_room(connection, fitted.source, fitted.job, made)
    if not views.is_shown(connection, fitted.job.name, made):
        # read after the publishers' lock: else the view could go back to the version that was published before
        model_versions.await_published(connection, fitted.version.name)
        if model_versions.shown_of(connection, fitted.job) == fitted.version.version:
            show(connection, fitted.job, fitted.version.version)
    return made


def for_run(connection: Connection, job: Job, found: PredictionSet) -> PredictionSet:
    """The set that a new run scores into: `found`, the version's visible set, or a new generation for the run.

    It is never a generation that another run began: its rows would be of different days.
    """
    if job.on_failure == "retry-run":
        atomic_runs.hide_what_comes(connection, found)
    else:
        atomic_runs.show_as_it_comes(connection, found)
    if job.rescore == "never":
        return found
    made = prediction_sets.new_generation(connection, found, has_key=not workers.all_fill_without_key(connection))
    set_drops.drop_unfinished(connection, made, job.keep)
    return made


def for_run_anew(connection: Connection, fitted: Fit) -> PredictionSet:
    """A set for a run that scores every row anew. Readers see it after the run has succeeded."""
    made = prediction_sets.beside(
        connection,
        fitted.source,
        fitted.job,
        fitted.version.version,
        fitted.signature.outputs,
        has_key=not workers.all_fill_without_key(connection),
    )
    stored_changes.make_room(connection, fitted.source, fitted.job, made)
    set_drops.drop_unfinished(connection, made, fitted.job.keep)
    return made


def show(connection: Connection, job: Job, version: int) -> None:
    """Point the job's view at the set of this version that readers are to see."""
    shown = prediction_sets.shown(connection, job, version)
    if shown is not None:
        views.show(connection, job.name, shown)
