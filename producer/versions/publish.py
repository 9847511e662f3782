"""Model versions: adds them, and switches the version that views show and runs score with."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from scorebeat.core.errors import ModelError, ScorebeatError, UnknownName, UsageError, near
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.model_versions import NewVersion, Version, VersionTaken
from scorebeat.db.records import audit
from scorebeat.db.schema import ownership
from scorebeat.db.source.selection import planning_cursor
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import NOTHING, AddOptions
from scorebeat.models.evidence import Evidence
from scorebeat.models.inputs.samples import Sample
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import prediction_tables
from scorebeat.producer.versions.comparison import MIN_COVERAGE, objections

ADD_TRIES = 5


@dataclass(frozen=True)
class Added:
    """A version in the store and in the ledger."""

    artifact: Artifact
    version: Version
    jobs: list[str]
    """Jobs that now have a prediction set for it."""
    notes: list[str]
    """Jobs that use the model and do not fit this version, each with the reason."""


ADDED = "model.added"
"""The recorded action of each addition, with the evidence of its trial."""


def add(
    p: Producer, source: str | Path, name: str, by: str, options: AddOptions = NOTHING, sample: Sample | None = None
) -> Added:
    """Store a file, a folder or `module:Class` as the next version of `name`; a model's first is published.

    It is tried on the rows of `sample`, a SampleFile or a SampleJob, or else on invented rows. If it raises for
    invented rows, it is added and not published.

    The files are stored first: a crash before the record leaves an unused version, and a repeated call finishes the
    work. The ledger assigns the number: if somebody else's files got it meanwhile, the next number is tried.
    Raises StoreError, ModelError or ServiceDown.
    """
    options = options if sample is None else replace(options, sample=sample)
    artifacts, cache = p.settings.artifacts, p.settings.cache
    for tries_left in reversed(range(ADD_TRIES)):
        with reachable(p.url), p.engine.connect() as connection:
            ownership.require_owner(connection, "add a model")
            recorded = model_versions.recorded(connection, name)
        artifact = store.add(artifacts, source, name, options, recorded=recorded, cache=cache)
        try:
            return _record(p, artifact, by)
        except VersionTaken:
            if artifact.is_new:
                store.remove(artifacts, name, artifact.version, artifact.digest, cache=cache)
            if not tries_left:
                raise
    raise AssertionError("the last try returned or raised")


def evidence(connection: Connection) -> dict[str, Evidence]:
    """The evidence of each version's trial, by its name `iris/3`; a trial on user-supplied rows comes first."""
    found: dict[str, Evidence] = {}
    for subject, noted in audit.details(connection, ADDED):
        version, seen = subject.removeprefix("model "), Evidence.from_json(noted.get("evidence", {"rows": 0}))
        if version not in found or seen.is_of_supplied_rows or not found[version].is_of_supplied_rows:
            found[version] = seen
    return found


def _record(p: Producer, artifact: Artifact, by: str) -> Added:
    name = artifact.name
    new = NewVersion(
        name,
        artifact.version,
        artifact.format,
        artifact.digest,
        artifact.signature.to_json(),
        artifact.engine.engine,
        artifact.engine.to_json(),
    )
    with reachable(p.url), p.engine.begin() as connection:
        evidence = artifact.evidence
        was_scored = evidence is None or evidence.is_enough
        version = model_versions.add(connection, new, by, may_publish=was_scored)
        if artifact.engine.by_person:
            version = model_versions.set_engine(connection, new, by)
        if evidence is not None:
            audit.record(connection, by, ADDED, f"model {version}", evidence=evidence.to_json())
        if artifact.reference is not None:
            source = artifact.reference_source
            profiles.set_reference(connection, name, version.version, artifact.reference, source=source, by=by)
        ready, notes = [], []
        for job in _users(connection, name, version):
            try:
                with connection.begin_nested():
                    prediction_tables.ensure(connection, prediction_tables.fit(connection, p.url, job, version))
                ready.append(job.name)
            except ScorebeatError as error:
                notes.append(str(error))
    if not was_scored and not version.published:
        doubt = evidence.unsure if evidence is not None and evidence.unsure else "it has scored no row"
        notes.append(
            f"{version} was not published, for {doubt}. Add the file again with --sample FILE or "
            "--sample-job JOB: a model's first version is published once it scored rows as its library does. "
            f"`scorebeat publish {version}` publishes it as it is"
        )
    emit("model.added", model=str(version), digest=version.digest[:12], published=version.published, by=by)
    return Added(artifact, version, ready, notes)


class PublishRefused(UsageError):
    """Readers would lose by it; nothing was switched."""


def publish(p: Producer, name: str, version: int, by: str, min_coverage: float = MIN_COVERAGE) -> list[str]:
    """Switch every job that follows the model to this version, views and next runs, in one transaction.

    Returns the jobs. Raises PublishRefused if its files are gone or altered, if it lacks outputs of the present version
    or has them with another type, if its outputs are the same for every row, or if it scored less than the share
    `min_coverage` of today's rows; UnknownName, SignatureError, ServiceDown, or ViewInUse and ViewBusy. Then nothing
    was switched.
    """
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        _require_model(reader, name)
        candidate = model_versions.get(reader, name, version)
    _require_files(p, candidate)
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        against = objections(reader, name, version, min_coverage)
    if against:
        raise PublishRefused(
            f"model {name}/{version} was not published: {'; '.join(against)}. Nothing was switched. Score it with "
            f"`scorebeat enqueue JOB --model {name}/{version}`, look with `scorebeat models compare {name}/{version}`, "
            "or publish it nevertheless with --force."
        )
    return _switch(p, name, version, by, forced=False)


def publish_anyway(p: Producer, name: str, version: int, by: str) -> list[str]:
    """`publish` in spite of objections; the ledger records that it was forced."""
    return _switch(p, name, version, by, forced=True)


def rollback(p: Producer, name: str, by: str) -> tuple[Version, list[str]]:
    """Publish the version that was published before the present one; returns it and the jobs that it switched.

    Each further call goes one publication further back. Raises PublishRefused if `publish` of that version would;
    UnknownName if there is none; SignatureError, ServiceDown, or ViewInUse and ViewBusy. Then nothing was switched.
    """
    before = _previous(p, name)
    _require_files(p, before)
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        against = objections(reader, name, before.version, MIN_COVERAGE)
    if against:
        raise PublishRefused(
            f"model {name} was not rolled back to {before}: {'; '.join(against)}. Nothing was switched. Score it with "
            f"`scorebeat enqueue JOB --model {before}`, look with `scorebeat models compare {before}`, or go back "
            f"nevertheless with `scorebeat rollback {name} --force`."
        )
    return _back_to(p, before, by, forced=False)


def rollback_anyway(p: Producer, name: str, by: str) -> tuple[Version, list[str]]:
    """`rollback` in spite of objections; the ledger records that it was forced. The files must exist."""
    before = _previous(p, name)
    _require_files(p, before)
    return _back_to(p, before, by, forced=True)


def _previous(p: Producer, name: str) -> Version:
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        _require_model(reader, name)
        return model_versions.previous(reader, name)


def _back_to(p: Producer, before: Version, by: str, *, forced: bool) -> tuple[Version, list[str]]:
    name = before.name
    with reachable(p.url), p.engine.begin() as connection:
        model_versions.lock(connection, name, before.version)
        if model_versions.previous(connection, name).version != before.version:
            raise PublishRefused(f"model {name} was switched by somebody else meanwhile; nothing was switched here")
        switched = _publish(p, connection, name, before.version, by, rollback=True, forced=forced)
    emit("model.published", model=str(before), by=by, rollback=True, forced=forced)
    return before, switched


def _require_files(p: Producer, version: Version) -> None:
    """Raises PublishRefused if no worker could load the version, ServiceDown if the store does not answer."""
    artifacts, cache = p.settings.artifacts, p.settings.cache
    try:
        store.verify(artifacts, version.name, version.version, version.digest, cache=cache)
    except ModelError as error:
        raise PublishRefused(
            f"{version} was not published, for no worker could load it: {error}. Nothing was switched. `scorebeat "
            f"publish {version} --force` shows its predictions nevertheless; nothing more is scored without the files."
        ) from error


def _switch(p: Producer, name: str, version: int, by: str, **noted: Any) -> list[str]:
    with reachable(p.url), p.engine.begin() as connection:
        switched = _publish(p, connection, name, version, by, **noted)
    emit("model.published", model=f"{name}/{version}", by=by, **noted)
    return switched


def _publish(p: Producer, connection: Connection, name: str, version: int, by: str, **noted: Any) -> list[str]:
    _require_model(connection, name)
    published = model_versions.publish(connection, name, version, by, **noted)
    followers = [job for job in _users(connection, name, published) if job.pinned_version is None]
    for job in followers:
        prediction_tables.ensure(connection, prediction_tables.fit(connection, p.url, job, published))
    return [job.name for job in followers]


def _users(connection: Connection, name: str, version: Version) -> list[Job]:
    """Jobs that follow the model, or pin this version of it."""
    users = [row.job for row in jobs.listing(connection) if row.job.model_name == name]
    return [job for job in users if job.pinned_version in (None, version.version)]


def _require_model(connection: Connection, name: str) -> None:
    known = sorted({version.name for version in model_versions.listing(connection)})
    if name not in known:
        raise UnknownName(f"there is no model {name!r}.{near(name, known)} Add it with `scorebeat models add`.")
