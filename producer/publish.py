"""Model versions: adding one, and which one the views show and the next runs score."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from core.errors import ScorebeatError, UnknownName, near
from core.events import emit
from core.jobs import Job
from db import jobs, versions
from db.engine import reachable
from db.versions import NewVersion, Version
from models import store
from models.artifact import Artifact
from models.contract import NOTHING, Given
from producer import sets
from producer.context import Producer


@dataclass(frozen=True)
class Added:
    """A version in the store and in the ledger."""

    artifact: Artifact
    version: Version
    jobs: list[str]
    """Those that have a prediction set for it now."""
    notes: list[str]
    """Jobs that use the model and do not fit this version, each with the reason."""


def add(p: Producer, source: str | Path, name: str, by: str, given: Given = NOTHING) -> Added:
    """Store a file, a folder or `module:Class` as the next version of `name`; a model's first is published.

    The store comes first: a crash in between leaves a version that nobody uses, and the same call ends it.
    Raises StoreError or ModelError.
    """
    with reachable(p.url), p.engine.connect() as connection:
        recorded = [v.version for v in versions.listing(connection, name)]
    artifact = store.add(p.settings.artifacts, source, name, given, newest_recorded=max(recorded, default=0))
    new = NewVersion(name, artifact.version, artifact.format, artifact.digest, artifact.signature.to_json())
    with reachable(p.url), p.engine.begin() as connection:
        version = versions.add(connection, new, by)
        ready, notes = [], []
        for job in _users(connection, name, version):
            try:
                with connection.begin_nested():
                    sets.ensure(connection, sets.fit(connection, p.url, job, version))
                ready.append(job.name)
            except ScorebeatError as error:
                notes.append(str(error))
    emit("model.added", model=str(version), digest=version.digest[:12], published=version.published, by=by)
    return Added(artifact, version, ready, notes)


def publish(p: Producer, name: str, version: int, by: str) -> list[str]:
    """Switch every job that follows the model to this version, views and next runs, in one transaction.

    Answers the jobs. Raises UnknownName, SignatureError, or ViewInUse and ViewBusy; then nothing was switched.
    """
    with reachable(p.url), p.engine.begin() as connection:
        switched = _publish(p, connection, name, version, by)
    emit("model.published", model=f"{name}/{version}", by=by)
    return switched


def rollback(p: Producer, name: str, by: str) -> tuple[Version, list[str]]:
    """Publish the version that was published before today's; answers it and the jobs that it switched."""
    with reachable(p.url), p.engine.begin() as connection:
        _require_model(connection, name)
        before = versions.previous(connection, name)
        switched = _publish(p, connection, name, before.version, by)
    emit("model.published", model=str(before), by=by, rollback=True)
    return before, switched


def _publish(p: Producer, connection: Connection, name: str, version: int, by: str) -> list[str]:
    _require_model(connection, name)
    published = versions.publish(connection, name, version, by)
    followers = [job for job in _users(connection, name, published) if job.pinned_version is None]
    for job in followers:
        sets.ensure(connection, sets.fit(connection, p.url, job, published))
    return [job.name for job in followers]


def _users(connection: Connection, name: str, version: Version) -> list[Job]:
    """Jobs that follow the model, or pin this version of it."""
    users = [row.job for row in jobs.listing(connection) if row.job.model_name == name]
    return [job for job in users if job.pinned_version in (None, version.version)]


def _require_model(connection: Connection, name: str) -> None:
    known = sorted({v.name for v in versions.listing(connection)})
    if name not in known:
        raise UnknownName(f"there is no model {name!r}.{near(name, known)} Add it with `scorebeat models add`.")
