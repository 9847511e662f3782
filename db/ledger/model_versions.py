"""The `model_versions` table: digests, signatures, and which version is published."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from scorebeat.core.errors import ModelError, UnknownName, near
from scorebeat.core.jobs.job import Job
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import audit, turns
from scorebeat.db.schema import tables
from scorebeat.db.schema.tables import jobs
from scorebeat.db.schema.tables import model_versions as versions


@dataclass(frozen=True)
class Version:
    """A version of a model as the ledger records it; only a file with this digest is ever loaded."""

    name: str
    version: int
    format: str
    digest: str
    signature: dict[str, Any]
    engine: str
    """What computes its predictions: `native`, its own library, or an engine that returns the same numbers."""
    engine_choice: dict[str, Any]
    """How the engine was chosen."""
    added_at: datetime
    added_by: str
    published_at: datetime | None
    retired_at: datetime | None
    dropped_at: datetime | None

    @property
    def published(self) -> bool:
        return self.published_at is not None and self.retired_at is None

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


PUBLISHED = "model.published"
"""The recorded action of a publication."""
_PUBLISHED = versions.c.published_at.is_not(None) & versions.c.retired_at.is_(None)


@dataclass(frozen=True)
class NewVersion:
    """A model file that was added, as the store read it."""

    name: str
    version: int
    format: str
    digest: str
    signature: dict[str, Any]
    engine: str = "native"
    engine_choice: dict[str, Any] = field(default_factory=dict)


class VersionTaken(ModelError):
    """Other files were recorded under this number in between; the number stays theirs."""


class VersionDropped(UnknownName):
    """The version existed and was dropped; its number is never used again."""


def add(connection: Connection, new: NewVersion, by: str, *, may_publish: bool = True) -> Version:
    """Record a version; a model's first one is published if `may_publish`. Adding the same again changes nothing."""
    take_turns(connection, new.name)
    connection.execute(insert(versions).values(**asdict(new), added_by=by).on_conflict_do_nothing())
    digest = recorded(connection, new.name)[new.version]
    if digest != new.digest:
        what = f"recorded with digest {digest[:12]}" if digest else "dropped"
        raise VersionTaken(
            f"{new.name}/{new.version} is {what}, the file's digest is {new.digest[:12]}: a version never changes. "
            "Nothing was recorded; add the file as a new version."
        )
    found = get(connection, new.name, new.version)
    if may_publish and published(connection, new.name) is None:
        return publish(connection, new.name, new.version, by)
    return found


def set_engine(connection: Connection, new: NewVersion, by: str) -> Version:
    """Score a version that exists by the engine of `new`; processes that have it loaded go on with theirs."""
    before = lock(connection, new.name, new.version)
    connection.execute(
        update(versions)
        .where(versions.c.name == new.name, versions.c.version == new.version)
        .values(engine=new.engine, engine_choice=new.engine_choice)
    )
    if before.engine != new.engine:
        audit.record(connection, by, "model.engine", f"model {before}", before=before.engine, now=new.engine)
    return get(connection, new.name, new.version)


def get(connection: Connection, name: str, version: int) -> Version:
    """One version. Raises VersionDropped, or UnknownName with similar names."""
    row = connection.execute(
        select(versions).where(versions.c.name == name, versions.c.version == version)
    ).one_or_none()
    if row is not None and row.dropped_at is not None:
        raise VersionDropped(
            f"model {name}/{version} was dropped on {row.dropped_at:%Y-%m-%d}, with its predictions. "
            "Add its file again as a new version."
        )
    if row is None:
        known = [str(v) for v in listing(connection)]
        raise UnknownName(
            f"there is no model {name}/{version}."
            + near(f"{name}/{version}", known)
            + " Add it with `scorebeat models add`."
        )
    return Version(**row._mapping)


def listing(connection: Connection, name: str | None = None) -> list[Version]:
    """Versions that were not dropped, of one model or of all."""
    wanted = select(versions).where(versions.c.dropped_at.is_(None)).order_by(versions.c.name, versions.c.version)
    rows = connection.execute(wanted.where(versions.c.name == name) if name else wanted)
    return [Version(**row._mapping) for row in rows]


def formats_on(connection: Connection, queues: Sequence[str]) -> set[str]:
    """Formats of the models that the jobs on these queues name, of all versions that were not dropped."""
    of_jobs = select(func.split_part(jobs.c.spec["model"].astext, "/", 1)).where(
        jobs.c.removed_at.is_(None), jobs.c.spec["queue"].astext.in_(queues)
    )
    found = select(versions.c.format).where(versions.c.name.in_(of_jobs), versions.c.dropped_at.is_(None)).distinct()
    return set(connection.execute(found).scalars())


def recorded(connection: Connection, name: str) -> dict[int, str]:
    """Every number that the model ever had, with its digest; the digest is empty if the version was dropped."""
    digest = case((versions.c.dropped_at.is_(None), versions.c.digest), else_="")
    rows = connection.execute(select(versions.c.version, digest).where(versions.c.name == name))
    return {row[0]: row[1] for row in rows}


def published(connection: Connection, name: str) -> Version | None:
    row = connection.execute(select(versions).where(versions.c.name == name, _PUBLISHED)).one_or_none()
    return Version(**row._mapping) if row is not None else None


def of_job(connection: Connection, job: Job) -> Version:
    """The version that the job's next run scores. Raises UnknownName if there is none."""
    if job.pinned_version is not None:
        return get(connection, job.model_name, job.pinned_version)
    found = published(connection, job.model_name)
    if found is None and (there := listing(connection, job.model_name)):
        raise UnknownName(
            f"jobs.{job.name}: no version of model {job.model_name!r} is published yet. Publish one with "
            f"`scorebeat publish {there[-1]}`."
        )
    if found is None:
        known = sorted({v.name for v in listing(connection)})
        raise UnknownName(
            f"jobs.{job.name}: model {job.model_name!r} has no version yet.{near(job.model_name, known)} "
            f"Add one with `scorebeat models add FILE --name {job.model_name}`."
        )
    return found


def of_set(connection: Connection, found: PredictionSet) -> Version:
    """The version whose predictions the set has, dropped or not."""
    wanted = select(versions).where(versions.c.name == found.model, versions.c.version == found.model_version)
    return Version(**connection.execute(wanted).one()._mapping)


def shown_of(connection: Connection, job: Job) -> int | None:
    """The number of the version that readers of the job see, pinned or published; None if there is none."""
    if job.pinned_version is not None:
        return job.pinned_version
    found = published(connection, job.model_name)
    return None if found is None else found.version


def publish(connection: Connection, name: str, version: int, by: str, **details: Any) -> Version:
    """Make the version the published one; the caller switches the views in the same transaction."""
    lock(connection, name, version)
    connection.execute(
        update(versions)
        .where(versions.c.name == name, _PUBLISHED, versions.c.version != version)
        .values(retired_at=func.now())
    )
    connection.execute(
        update(versions)
        .where(versions.c.name == name, versions.c.version == version, ~_PUBLISHED)
        .values(published_at=func.now(), retired_at=None)
    )
    audit.record(connection, by, PUBLISHED, f"model {name}/{version}", **details)
    return get(connection, name, version)


def lock(connection: Connection, name: str, version: int) -> Version:
    """One version; until the transaction ends nobody else adds, publishes or drops one of this model.

    Raises UnknownName.
    """
    take_turns(connection, name)
    return get(connection, name, version)


def take_turns(connection: Connection, name: str) -> None:
    """Until the transaction ends nobody else adds, publishes or drops a version of this model."""
    turns.take(connection, turns.PUBLISH, name)


def keep_published(connection: Connection, name: str) -> bool:
    """Keep the published version as it is until the transaction ends; False if it is being changed now."""
    return turns.try_share(connection, turns.PUBLISH, name)


def await_published(connection: Connection, name: str) -> None:
    """Keep the published version as it is until the transaction ends; waits while somebody changes it."""
    turns.share(connection, turns.PUBLISH, name)


def drop(connection: Connection, version: Version, by: str, **details: Any) -> None:
    """Mark the version as dropped; its number and history stay. The caller locked it, and drops its predictions."""
    was_published = versions.c.published_at.is_not(None)
    retired = case((was_published, func.coalesce(versions.c.retired_at, func.now())), else_=versions.c.retired_at)
    connection.execute(
        update(versions)
        .where(versions.c.name == version.name, versions.c.version == version.version)
        .values(dropped_at=func.now(), retired_at=retired)
    )
    audit.record(connection, by, "model.dropped", f"model {version}", **details)


def previous(connection: Connection, name: str) -> Version:
    """The version that was published before the current one; dropped and rolled back versions are skipped.

    Raises UnknownName if there is none.
    """
    there = {found.version: found for found in listing(connection, name)}
    now = published(connection, name)
    for number in reversed(_standing(connection, name)):
        if number in there and (now is None or number != now.version):
            return there[number]
    others = [str(v) for v in there.values() if not v.published]
    raise UnknownName(
        f"model {name!r} has no version that was published before {now}; nothing to roll back to, and nothing was "
        "switched." + (f" Publish another by its number: {', '.join(others[-3:])}." if others else "")
    )


def _standing(connection: Connection, name: str) -> list[int]:
    """Published versions in their order, without those that a rollback undid."""
    done = select(tables.actions.c.subject, tables.actions.c.details).where(
        tables.actions.c.action == PUBLISHED, tables.actions.c.subject.startswith(f"model {name}/", autoescape=True)
    )
    standing: list[int] = []
    for subject, details in connection.execute(done.order_by(tables.actions.c.id)):
        version = int(subject.rpartition("/")[2])
        if details.get("rollback") and version in standing:
            del standing[len(standing) - standing[::-1].index(version) :]
        if standing[-1:] != [version]:
            standing.append(version)
    return standing
