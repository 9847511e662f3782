"""Drops and renames a whole model, and shows what its readers lose."""

from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import UnknownName, UsageError, near
from scorebeat.core.events import emit
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, renames, runs
from scorebeat.db.ledger import model_versions as versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.predictions import prediction_sets, set_drops, views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import audit
from scorebeat.db.schema import ownership
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.versions.drop import remove_files


@dataclass(frozen=True)
class Model:
    """All versions of a model, with their predictions and the jobs that use them."""

    versions: list[Version]
    sets: list[PredictionSet]
    predictions: int
    jobs: list[str]
    """Jobs that follow the model, or pin a version of it."""
    notes: tuple[str, ...] = ()
    """Why files are still in the store."""


def look(p: Producer, name: str, new: str | None = None) -> Model:
    """The model before it is dropped, or renamed to `new`.

    Raises UnknownName, StoreError for an invalid new name, or UsageError while a run of it is open, or if the new name
    is taken.
    """
    with reachable(p.url), p.engine.connect() as connection:
        if new is not None:
            _require_free(connection, new)
        return _found(connection, name)


def require_unused(found: Model, name: str) -> None:
    """Raises UsageError if a job uses the model."""
    if found.jobs:
        raise UsageError(
            f"model {name} is used by {', '.join(found.jobs)}: give those another model in their file, or drop them "
            f"with `scorebeat jobs drop {found.jobs[0]}`. Nothing was dropped."
        )


def drop(p: Producer, name: str, by: str) -> Model:
    """Drop every version of a model that no job uses: predictions and quarantine in one transaction, then the files.

    Raises UnknownName; NotPermitted; UsageError while a job uses it, a run is open, or other objects depend on a
    table, the view of a job that was removed among them. Then nothing was dropped.
    """
    with reachable(p.url), p.engine.begin() as connection:
        ownership.require_owner(connection, "drop a model")
        runs.require_none_held(connection, model=name)
        versions.take_turns(connection, name)
        gone = _found(connection, name)
        require_unused(gone, name)
        tables = {prediction_set.table_name for prediction_set in gone.sets}
        for job in sorted({prediction_set.job for prediction_set in gone.sets}):
            shown = views.read_now(connection, job)
            if shown is not None and shown.table_name in tables:
                raise UsageError(
                    f"predictions.{job} shows predictions of {shown.model}/{shown.model_version} to its readers, "
                    f"though job {job} does not use the model any more: score its new model, or run `scorebeat jobs "
                    f"drop {job}`. Nothing was dropped."
                )
        set_drops.drop_all(connection, gone.sets)
        for version in gone.versions:
            versions.drop(connection, version, by)
    emit("model.dropped", model=name, predictions=gone.predictions, by=by)
    return Model(gone.versions, gone.sets, gone.predictions, [], _remove_files(p, gone.versions))


def rename(p: Producer, old: str, new: str, by: str) -> Model:
    """Rename all versions, their files and tables, and the model in its jobs; no prediction is touched.

    The files are copied first, and deleted under the old name last: a crash in between leaves an unused copy, and a
    repeated call finishes the work. Raises UnknownName; NotPermitted; UsageError while a run is open, or for a
    name that is taken; StoreError, ModelError or ServiceDown.
    """
    artifacts, cache = p.settings.artifacts, p.settings.cache
    with reachable(p.url), p.engine.begin() as connection:
        ownership.require_owner(connection, "rename a model")
        for name in sorted((old, new)):
            versions.take_turns(connection, name)
        moved = _found(connection, old)
        _require_free(connection, new)
        for job in moved.jobs:
            jobs.get(connection, job, lock=True)  # nobody opens a run meanwhile
        for version in moved.versions:
            store.copy(artifacts, old, version.version, version.digest, new, cache=cache)
        renames.rename_model(connection, old, new, moved.sets)
        audit.record(connection, by, "model.renamed", f"model {new}", was=old)
    emit("model.renamed", model=new, was=old, by=by)
    return Model(moved.versions, moved.sets, moved.predictions, moved.jobs, _remove_files(p, moved.versions))


def _require_free(connection: Connection, name: str) -> None:
    store.require_name(name)
    if versions.recorded(connection, name):
        raise UsageError(f"there is, or was, a model {name}. Nothing was renamed; choose another name")


def _found(connection: Connection, name: str) -> Model:
    found = versions.listing(connection, name)
    if not found:
        known = sorted({version.name for version in versions.listing(connection)})
        raise UnknownName(f"there is no model {name!r}.{near(name, known)} `scorebeat models list` lists them")
    scoring = [run for version in found for run in runs.open_of_version(connection, name, version.version)]
    if scoring:
        which = ", ".join(map(str, scoring))
        raise UsageError(
            f"model {name} is being scored by run {which}: wait for it, or stop it with `scorebeat cancel "
            f"{scoring[0]}`. Nothing was changed."
        )
    sets = [one for version in found for one in prediction_sets.of_version(connection, name, version.version)]
    users = [row.job.name for row in jobs.listing(connection) if row.job.model_name == name]
    return Model(found, sets, prediction_sets.count(connection, sets), users)


def _remove_files(p: Producer, gone: list[Version]) -> tuple[str, ...]:
    notes = [remove_files(p, version) for version in gone]
    return tuple(note for note in notes if note is not None)
