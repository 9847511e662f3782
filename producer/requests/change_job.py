"""Drops and renames a job, and shows what its readers lose."""

from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Connection

from scorebeat.core.errors import UsageError
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.db.closing import run_totals
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, renames, runs
from scorebeat.db.ledger.evidence import profiles, quality
from scorebeat.db.predictions import prediction_sets, set_drops, views
from scorebeat.db.records import audit, retention, usage
from scorebeat.db.schema import ownership
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class Stake:
    """What readers of a job have and may lose."""

    job: Job
    view: str | None
    """`predictions.iris`; None if there is no view."""
    tables: list[str]
    predictions: int
    """In all of its tables."""
    owner: str | None
    """The file that names the job; None if it is unknown, or the job left its file."""


def look(p: Producer, name: str, new: str | None = None) -> Stake:
    """What is at stake if the job is dropped, or renamed to `new`.

    Raises UnknownName, or UsageError while a run is open or if it cannot have the new name.
    """
    with reachable(p.url), p.engine.connect() as connection:
        found = _stake(connection, name)
        if new is not None:
            _require_name(connection, found.job, new)
        return found


def drop(p: Producer, name: str, by: str) -> Stake:
    """Drop the job, its view, its tables and what it has in quarantine, in one transaction. Its runs stay in the list.

    Raises UnknownName; NotPermitted; UsageError while a run of it is open, or other objects depend on its view or its
    tables; ViewBusy. Then nothing was dropped.
    """
    with reachable(p.url), p.engine.begin() as connection:
        ownership.require_owner(connection, "drop a job")
        jobs.get_any(connection, name, lock=True)  # nobody opens a run meanwhile
        runs.require_none_held(connection, job=name)
        gone = _stake(connection, name)
        views.drop(connection, name)
        set_drops.drop_all(connection, retention.sets_of(connection, name))
        set_drops.make_room(connection, name)
        quality.forget(connection, name)
        profiles.forget_job(connection, name)
        while run_totals.note(connection).ends:
            pass
        usage.set_apart(connection, name)
        jobs.forget(connection, name)
        audit.record(connection, by, "job.dropped", f"job {name}", tables=gone.tables, predictions=gone.predictions)
    emit("job.dropped", job=name, predictions=gone.predictions, by=by)
    return gone


def rename(p: Producer, old: str, new: str, by: str) -> Stake:
    """Rename the job, its view, its tables and its runs, in one transaction; no prediction is touched.

    Raises UnknownName; NotPermitted; UsageError while a run of it is open, or for a taken or invalid name; ViewBusy.
    """
    with reachable(p.url), p.engine.begin() as connection:
        ownership.require_owner(connection, "rename a job")
        job = jobs.get_any(connection, old, lock=True)
        _require_name(connection, job, new)
        moved = _stake(connection, old)
        renames.rename_job(connection, old, new, retention.sets_of(connection, old))
        audit.record(connection, by, "job.renamed", f"job {new}", was=old)
    emit("job.renamed", job=new, was=old, by=by)
    return moved


def _stake(connection: Connection, name: str) -> Stake:
    job = jobs.get_any(connection, name)
    scoring = runs.open_of_job(connection, name)
    if scoring:
        which = ", ".join(map(str, scoring))
        raise UsageError(
            f"job {name} has an open run, {which}: wait for it, or stop it with `scorebeat cancel {scoring[0]}`. "
            "Nothing was changed."
        )
    sets = retention.sets_of(connection, name)
    owners = {row.job.name: row.owner for row in jobs.listing(connection)}
    return Stake(
        job,
        f"predictions.{name}" if views.read_now(connection, name) is not None else None,
        [prediction_set.table for prediction_set in sets],
        prediction_sets.count(connection, sets),
        owners.get(name),
    )


def _require_name(connection: Connection, job: Job, new: str) -> None:
    try:
        Job.model_validate({**job.model_dump(mode="json"), "name": new})
    except ValidationError as error:
        raise UsageError(f"{error.errors()[0]['ctx']['error']}. Nothing was renamed") from None
    if jobs.is_known(connection, new):
        raise UsageError(f"there is, or was, a job {new}, which has runs of its own. Nothing was renamed")
