"""The `jobs` table: jobs as they were last applied, and what was done to them since."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from scorebeat.core.errors import UnknownName, near, require_short
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import database_clock
from scorebeat.db.records import audit, counters
from scorebeat.db.schema.tables import jobs

LONGEST_REASON = 1_000
"""Characters of the reason of a pause, which is shown in notices, in the log and in a line of `scorebeat jobs`."""


@dataclass(frozen=True)
class JobRow:
    """A job as the ledger has it."""

    job: Job
    last_due_at: datetime
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    owner: str | None
    """The file that it comes from; None: it was applied before files owned jobs."""


@dataclass(frozen=True)
class MissedTick:
    """A due time of a replaced schedule that nobody handled: it is lost."""

    job: str
    due_at: datetime
    reason: str

    def log(self) -> None:
        """To be called when the transaction is committed."""
        emit("tick.missed", job=self.job, due_at=self.due_at.isoformat(), moments=1, reason=self.reason)


@dataclass(frozen=True)
class AppliedJobs:
    """Names of the jobs, by what `apply` did with them."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    missed: list[MissedTick] = field(default_factory=list)


def apply(
    connection: Connection, wanted: Iterable[Job], by: str, removed: Collection[str] | None = None
) -> AppliedJobs:
    """Make the table equal to the file. The caller logs the missed ticks when the transaction is committed.

    `removed` are the jobs to remove; by default all that are not in `wanted`.
    """
    before = {row.job.name: row for row in listing(connection)}
    applied = AppliedJobs()
    for job in wanted:
        row = before.pop(job.name, None)
        old = row.job if row is not None else None
        (applied.added if old is None else applied.same if old == job else applied.changed).append(job.name)
        if old != job:
            _store(connection, job, old)
        if row is not None and row.job.due != job.due:
            applied.missed.extend(_record_unhandled(connection, row))
    for name in before if removed is None else removed:
        connection.execute(update(jobs).where(jobs.c.name == name).values(removed_at=func.now()))
        applied.removed.append(name)
    if applied.added or applied.changed or applied.removed:
        names = {"added": applied.added, "changed": applied.changed, "removed": applied.removed, "same": applied.same}
        audit.record(connection, by, "jobs.applied", "jobs.toml", **names)
    return applied


def _record_unhandled(connection: Connection, row: JobRow) -> Iterator[MissedTick]:
    """Record the newest due time of the replaced schedule, if nobody handled it yet."""
    due_at = row.job.due.latest_due(database_clock.now(connection)) if row.job.due is not None else row.last_due_at
    if due_at > row.last_due_at and row.paused_at is None:
        reason = f"the schedule was changed before the due time {due_at.isoformat(' ', 'seconds')} was handled"
        details = {"due_at": due_at.isoformat(), "moments": 1, "reason": reason}
        audit.record(connection, "scorebeat", "tick.missed", f"job {row.job.name}", **details)
        counters.add_to_job(connection, counters.TICKS_MISSED, row.job.name, 1)
        yield MissedTick(row.job.name, due_at, reason)


def set_owner(connection: Connection, names: Iterable[str], owner: str) -> None:
    """The jobs belong to this file from now on."""
    others = jobs.c.name.in_(list(names)) & jobs.c.owner.is_distinct_from(owner)
    connection.execute(update(jobs).where(others).values(owner=owner))


def _store(connection: Connection, job: Job, old: Job | None) -> None:
    """Add or change a job. One that comes back is like a new one: not paused, and due from its next tick on.

    A changed schedule counts from its change: earlier ticks of it are not made up.
    """
    spec = job.model_dump(mode="json")
    begins = old is None or old.due != job.due
    due_again: dict[str, Any] = {"last_due_at": func.now()} if begins else {}
    new_again = {"paused_at": None, "paused_by": None, "paused_reason": None} if old is None else {}
    new = insert(jobs).values(name=job.name, spec=spec)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["name"],
            set_={"spec": spec, "applied_at": func.now(), "removed_at": None, **due_again, **new_again},
        )
    )


def listing(connection: Connection) -> list[JobRow]:
    """Jobs that were not removed, in the order of their names."""
    rows = connection.execute(select(jobs).where(jobs.c.removed_at.is_(None)).order_by(jobs.c.name))
    return [_read(row) for row in rows]


def get(connection: Connection, name: str, *, lock: bool = False) -> JobRow:
    """One job. Raises UnknownName with similar names."""
    wanted = select(jobs).where(jobs.c.name == name, jobs.c.removed_at.is_(None))
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        known = [r.job.name for r in listing(connection)]
        raise UnknownName(
            f"there is no job {name!r}." + near(name, known) + " Jobs come from jobs.toml by `scorebeat apply`."
        )
    return _read(row)


def get_any(connection: Connection, name: str, *, lock: bool = False) -> Job:
    """The job, also one that left its file. Raises UnknownName with similar names."""
    wanted = select(jobs).where(jobs.c.name == name)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    return _read(row).job if row is not None else get(connection, name).job


def applied_at(connection: Connection, name: str) -> datetime | None:
    """When the job was last added or changed."""
    return connection.execute(select(jobs.c.applied_at).where(jobs.c.name == name)).scalar_one_or_none()


def forget(connection: Connection, name: str) -> None:
    """Remove the job from its file's jobs; its row stays for the runs that it had."""
    gone = {"removed_at": func.coalesce(jobs.c.removed_at, func.now()), "owner": None}
    unpaused = {"paused_at": None, "paused_by": None, "paused_reason": None}
    connection.execute(update(jobs).where(jobs.c.name == name).values(**gone, **unpaused))


def is_known(connection: Connection, name: str) -> bool:
    """Whether the job exists or existed."""
    return connection.execute(select(jobs.c.name).where(jobs.c.name == name)).one_or_none() is not None


def require_known(connection: Connection, name: str) -> None:
    """Raises UnknownName, with similar names, unless the job exists or existed."""
    if not is_known(connection, name):
        get(connection, name)


def get_locked(connection: Connection, name: str) -> Job | None:
    """The job as it was last in the file, locked until the transaction ends; None if it never existed.

    It waits for nobody: if somebody is changing the job now, it raises a transient DBAPIError.
    """
    wanted = select(jobs).where(jobs.c.name == name)
    row = connection.execute(wanted.with_for_update(read=True, nowait=True)).one_or_none()
    return _read(row).job if row is not None else None


def mark_handled(connection: Connection, name: str, due_at: datetime) -> bool:
    """Mark the tick as handled; False if it already was, so that the second of two beats loses."""
    moved = connection.execute(
        update(jobs)
        .where(jobs.c.name == name, jobs.c.removed_at.is_(None), jobs.c.last_due_at < due_at)
        .values(last_due_at=due_at)
        .returning(jobs.c.name)
    )
    return moved.one_or_none() is not None


def pause(connection: Connection, name: str, by: str, reason: str) -> bool:
    """Handle no ticks until the job is resumed. False if it was paused already.

    Raises UsageError for a reason that is too long.
    """
    require_short("the reason", reason, LONGEST_REASON)
    get(connection, name)
    moved = connection.execute(
        update(jobs)
        .where(jobs.c.name == name, jobs.c.paused_at.is_(None))
        .values(paused_at=func.now(), paused_by=by, paused_reason=reason)
        .returning(jobs.c.name)
    ).one_or_none()
    if moved is not None:
        audit.record(connection, by, "job.paused", f"job {name}", reason=reason)
    return moved is not None


def resume(connection: Connection, name: str, by: str) -> bool:
    """Handle ticks again, from the next one. False if it was not paused."""
    get(connection, name)
    moved = connection.execute(
        update(jobs)
        .where(jobs.c.name == name, jobs.c.paused_at.is_not(None))
        .values(paused_at=None, paused_by=None, paused_reason=None, last_due_at=func.now())
        .returning(jobs.c.name)
    ).one_or_none()
    if moved is not None:
        audit.record(connection, by, "job.resumed", f"job {name}")
    return moved is not None


def _read(row: Row[tuple[object, ...]]) -> JobRow:
    values = row._mapping
    return JobRow(
        Job.model_validate(values["spec"]),
        values["last_due_at"],
        values["paused_at"],
        values["paused_by"],
        values["paused_reason"],
        values["owner"],
    )
