"""Applying jobs.toml: every job is checked against the database and its model before anything is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import ScorebeatError, UnknownName, UsageError, WouldRemoveAll
from scorebeat.core.events import emit
from scorebeat.core.jobs import Job
from scorebeat.db import jobs, prediction_sets, source, stored_keys, versions
from scorebeat.db.engine import reachable
from scorebeat.producer import sets
from scorebeat.producer.context import Producer
from scorebeat.producer.sets import Fit


@dataclass(frozen=True)
class Applied:
    """Names of jobs by what became of them, and what is still missing, in sentences."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    same: list[str]
    notes: list[str]


def apply(p: Producer, wanted: Sequence[Job], by: str) -> Applied:
    """Make the ledger say what the file says, all or nothing; prediction tables and views are made too.

    Safe to repeat. A job whose model has no version yet is stored with a note. So is one that the ledger has as it is,
    when the user's tables changed under it: that stops no other job. Raises UsageError with the mistakes of all others
    together, and WouldRemoveAll where none is wanted and there are some: `remove_all` does that.
    """
    with reachable(p.url), p.engine.begin() as connection:
        if not wanted:
            _require_none(connection)
        known = {row.job.name: row.job for row in jobs.listing(connection)}
        fits: list[Fit] = []
        notes: list[str] = []
        mistakes: list[str] = []
        for job in wanted:
            try:
                found = check(connection, p.url, job)
            except ScorebeatError as error:
                (notes if known.get(job.name) == job else mistakes).append(str(error))
                continue
            notes += [found] if isinstance(found, str) else []
            fits += [found] if isinstance(found, Fit) else []
        if mistakes:
            raise UsageError(_all(mistakes))
        report = jobs.apply(connection, wanted, by)
        for fitted in fits:
            try:
                with connection.begin_nested():
                    sets.ensure(connection, fitted)
            except ScorebeatError as error:
                if known.get(fitted.job.name) != fitted.job:
                    raise
                notes.append(str(error))
    return _told(report, notes, by)


def remove_all(p: Producer, by: str) -> Applied:
    """No job is left; their runs and predictions stay."""
    with reachable(p.url), p.engine.begin() as connection:
        report = jobs.apply(connection, [], by)
    return _told(report, [], by)


def check(connection: Connection, url: str, job: Job) -> Fit | str:
    """The job's query and model fit each other; or a sentence when the model has no such version yet.

    Raises QueryError, SignatureError, or UsageError for a version that was dropped; the caller's transaction goes on.
    """
    with connection.begin_nested():
        try:
            version = versions.of_job(connection, job)
        except versions.VersionDropped as error:  # it does not come back, so no run could ever begin
            raise UsageError(f"jobs.{job.name}: {error}") from None
        except UnknownName as error:
            source.describe(connection, url, job)
            return str(error)
        fitted = sets.fit(connection, url, job, version)
        target = prediction_sets.shown(connection, job, version.version)
        if target is not None:
            stored_keys.require_comparable(connection, fitted.source, target)
        return fitted


def _require_none(connection: Connection) -> None:
    names = [row.job.name for row in jobs.listing(connection)]
    if names:
        raise WouldRemoveAll(
            f"the jobs file holds no [jobs.NAME], and the database has {len(names)} job{'s' * (len(names) != 1)} "
            f"({', '.join(names[:5])}{', ...' * (len(names) > 5)}): expected at least one. Nothing was removed. Put "
            "the file right; to remove every job, say `scorebeat apply --remove-all`"
        )


def _told(report: dict[str, list[str]], notes: list[str], by: str) -> Applied:
    emit("jobs.applied", by=by, added=report["added"], changed=report["changed"], removed=report["removed"])
    return Applied(**report, notes=notes)


def _all(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"{mistakes[0].rstrip('.')}. Nothing was applied."
    return "\n  ".join([f"{len(mistakes)} jobs cannot be applied; nothing was:", *mistakes])
