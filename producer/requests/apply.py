"""Applies jobs files: every job is checked against the database and its model before anything is stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import QueryError, ScorebeatError, UnknownName, UsageError, WouldRemoveAll, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import OWNER, JobsFile
from scorebeat.db.connect import session
from scorebeat.db.connect.engine import reachable
from scorebeat.db.connect.sql import subquery
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.predictions import old_queries, prediction_sets, stored_keys
from scorebeat.db.schema import ownership
from scorebeat.db.source import source, truth
from scorebeat.db.source.selection import planning_cursor
from scorebeat.producer.context import Producer
from scorebeat.producer.requests import measure_quality
from scorebeat.producer.requests.preview import require_good_keys
from scorebeat.producer.versions import prediction_tables
from scorebeat.producer.versions.comparison import objections_to_job
from scorebeat.producer.versions.prediction_tables import Fit


@dataclass(frozen=True)
class ApplyOptions:
    """The options of `scorebeat apply`."""

    prune: bool = False
    """Remove jobs that these files own and no longer name."""
    adopt: bool = False
    """Take over jobs that another file owns."""
    force: bool = False
    """Apply a model or a pin by which readers lose."""


NO_OPTIONS = ApplyOptions()


@dataclass(frozen=True)
class Applied:
    """Names of jobs by what was done to them, or would be; and notes on what is still missing."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    same: list[str]
    notes: list[str]
    differences: dict[str, list[str]] = field(default_factory=dict)
    """For each changed job its changes, such as `batch_rows 40 -> 50`."""
    of_old_query: list[str] = field(default_factory=list)
    """Changed jobs with predictions of their old query, which stay unless the rows are scored anew."""


CHECKS_TAKE = "1h"
"""At most; whoever applies may stop it before."""


class ApplyRefused(UsageError):
    """Readers would lose by it; nothing was applied."""


@dataclass(frozen=True)
class _Examined:
    """The files compared with the ledger, after all checks passed."""

    known: dict[str, JobRow]
    fits: list[Fit]
    removed: list[str]
    notes: list[str]
    of_old_query: list[str]

    def is_same(self, job: Job) -> bool:
        return job.name in self.known and self.known[job.name].job == job


def apply(
    p: Producer, wanted: Sequence[Job], by: str, options: ApplyOptions = NO_OPTIONS, owner: str = OWNER
) -> Applied:
    """`apply_files` for the jobs of one file."""
    return apply_files(p, [JobsFile(Path(owner), owner, tuple(wanted))], by, options)


def apply_files(p: Producer, files: Sequence[JobsFile], by: str, options: ApplyOptions = NO_OPTIONS) -> Applied:
    """Apply the files to the ledger, all or nothing; prediction tables and views are made too.

    Safe to repeat. Jobs of other files stay as they are. A job that left its file goes on, with a note, unless `prune`
    is set. A job whose model has no version yet is stored with a note. An unchanged job that no longer fits the user's
    tables gets a note, and stops no other job. Raises UsageError with the mistakes of all other jobs together, or for a
    job that another file owns; ApplyRefused if readers would lose; and WouldRemoveAll if the files have no jobs and own
    some: `remove_all` removes them.
    """
    wanted = [job for file in files for job in file.jobs]
    with reachable(p.url), p.engine.begin() as connection:
        # checks of keys and truths read the user's tables in a session of their own, for as long as that takes
        session.may_pause(connection, CHECKS_TAKE)
        found = _examine(p, connection, files, options)
        applied = jobs.apply(connection, wanted, by, found.removed)
        if ownership.is_owner(connection):  # a run role may change no job
            for file in files:
                jobs.set_owner(connection, [job.name for job in file.jobs], file.owner)
        for fitted in found.fits:
            try:
                with connection.begin_nested():
                    prediction_tables.ensure(connection, fitted)
            except ScorebeatError as error:
                if not found.is_same(fitted.job):
                    raise
                found.notes.append(str(error))
    return _applied(applied, found, by)


def difference(p: Producer, files: Sequence[JobsFile], options: ApplyOptions = NO_OPTIONS) -> Applied:
    """What `apply_files` would do; nothing is changed. Raises what `apply_files` raises."""
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        session.may_pause(reader, CHECKS_TAKE)
        found = _examine(p, reader, files, options)
    wanted = [job for file in files for job in file.jobs]
    changed = [job for job in wanted if job.name in found.known and not found.is_same(job)]
    differences: dict[str, list[str]] = {}
    for job in changed:
        before, now = (
            each.model_dump(mode="json", exclude={"parameters"})
            | {f"parameters.{name}": parameter for name, parameter in each.parameters.items()}
            for each in (found.known[job.name].job, job)
        )
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        differences[job.name] = [
            key if key in ("query", "truth") else f"{key} {before.get(key)} -> {now.get(key)}" for key in keys
        ]
    return Applied(
        added=[job.name for job in wanted if job.name not in found.known],
        changed=[job.name for job in changed],
        removed=found.removed,
        same=[job.name for job in wanted if found.is_same(job)],
        notes=found.notes,
        differences=differences,
        of_old_query=found.of_old_query,
    )


def remove_all(p: Producer, by: str, owner: str = OWNER) -> Applied:
    """Remove the jobs that this file owns, and those that no file owns; their runs and predictions stay."""
    with reachable(p.url), p.engine.begin() as connection:
        mine = [row.job.name for row in jobs.listing(connection) if row.owner in (owner, None)]
        applied = jobs.apply(connection, [], by, mine)
    return _applied(applied, _Examined({}, [], mine, [], []), by)


def check(connection: Connection, url: str, job: Job) -> Fit | str:
    """The fit of the job's query and model; or a sentence if the model has no such version yet.

    Raises QueryError, SignatureError, or UsageError for a dropped version; the caller's transaction stays usable.
    """
    with connection.begin_nested():
        try:
            version = model_versions.of_job(connection, job)
        except model_versions.VersionDropped as error:  # it never comes back, so no run could begin
            raise UsageError(f"jobs.{job.name}: {error}") from None
        except UnknownName as error:
            found = source.describe(connection, url, job)
            if job.truth is not None:
                measure_quality.require_comparable(connection, url, job, subquery(found.query, "p"), None)
            return str(error)
        fitted = prediction_tables.fit(connection, url, job, version)
        if job.truth is not None:
            rows = subquery(fitted.source.query, "p")
            measure_quality.require_comparable(connection, url, job, rows, fitted.signature.outputs)
        target = prediction_sets.shown(connection, job, version.version)
        if target is not None:
            stored_keys.require_comparable(connection, fitted.source, target)
        return fitted


def _examine(p: Producer, connection: Connection, files: Sequence[JobsFile], options: ApplyOptions) -> _Examined:
    known = {row.job.name: row for row in jobs.listing(connection)}
    _require_owned(known, files, options)
    owners, named = {file.owner for file in files}, {job.name for file in files for job in file.jobs}
    left = {  # jobs that these files own and do not name, with their owners
        name: row.owner
        for name, row in known.items()
        if row.owner is not None and row.owner in owners and name not in named
    }
    _require_jobs(known, files, left, options)
    found = _Examined(known, [], sorted(left) if options.prune else [], [], [])
    mistakes: list[str] = []
    for job in (job for file in files for job in file.jobs):
        try:
            checked = check(connection, p.url, job)
        except ScorebeatError as error:
            (found.notes if found.is_same(job) else mistakes).append(str(error))
            continue
        if isinstance(checked, Fit):
            found.fits.append(checked)
        else:
            found.notes.append(checked)
    if mistakes:
        raise UsageError(_in_one_message(mistakes))
    _require_keys(p, [fitted for fitted in found.fits if not found.is_same(fitted.job)])
    if not options.force:
        against = []
        with planning_cursor.reading(p.engine) as reader:
            for job in (job for file in files for job in file.jobs if not found.is_same(job)):
                against += [f"jobs.{job.name} with {job.model}: {why}" for why in objections_to_job(reader, job)]
        if against:
            raise ApplyRefused(
                f"readers would lose by it, so nothing was applied: {'; '.join(against)}. A version of the same model "
                "is scored beforehand with `scorebeat enqueue JOB --model NAME/V`; another model in a job of another "
                "name. `scorebeat apply --force` applies it nevertheless."
            )
    _note_old_queries(connection, found)
    found.notes.extend(_note_left(known, files, {} if options.prune else left))
    return found


def _require_owned(known: dict[str, JobRow], files: Sequence[JobsFile], options: ApplyOptions) -> None:
    """Raises UsageError for jobs of other files. A job may move between the files that are applied together."""
    owners = {None, *(file.owner for file in files)}
    taken = [
        f"jobs.{job.name} of {file.path} belongs to {known[job.name].owner!r}"
        for file in files
        for job in file.jobs
        if job.name in known and known[job.name].owner not in owners
    ]
    if taken and not options.adopt:
        raise UsageError(
            f"{'; '.join(taken)}: another jobs file made it, and nothing was applied. Give the job another name; or, "
            'where that file was renamed, write owner = "ITS OLD NAME" at the top of this one; or take the job over '
            "with `scorebeat apply --adopt`"
        )


def _note_left(known: dict[str, JobRow], files: Sequence[JobsFile], left: dict[str, str]) -> list[str]:
    """Notes on jobs that go on although no file names them."""
    named = {job.name for file in files for job in file.jobs}
    notes = [
        f"job {name} is not in {owner} any more and goes on; `scorebeat apply --prune` removes it"
        for name, owner in sorted(left.items())
    ]
    notes += [
        f"job {name} belongs to {owner}, which is not in this folder, and goes on. `scorebeat apply --file {owner} "
        "--remove-all` with an empty file of that name removes the jobs of it and keeps their predictions; `scorebeat "
        f"jobs drop {name}` drops those too"
        for name, owner in without_file(known.values(), files)
    ]
    return notes + [
        f"job {name} is in no file that was applied since files own jobs, and goes on; apply the file that names it"
        for name, row in known.items()
        if row.owner is None and name not in named
    ]


def without_file(known: Iterable[JobRow], files: Sequence[JobsFile]) -> list[tuple[str, str]]:
    """Jobs whose file is not in the folder that was read, with their owners; empty if no folder was read.

    Somebody may have deleted the file to end its jobs, and they go on.
    """
    if not any(file.is_in_folder for file in files):
        return []
    present, named = {file.owner for file in files}, {job.name for file in files for job in file.jobs}
    return sorted(
        (row.job.name, row.owner)
        for row in known
        if row.owner is not None and row.owner not in present and row.job.name not in named
    )


def _require_jobs(
    known: dict[str, JobRow], files: Sequence[JobsFile], left: dict[str, str], options: ApplyOptions
) -> None:
    """Raises WouldRemoveAll for files without jobs, which may have been emptied by mistake."""
    empty = {file.owner for file in files if not file.jobs}
    if options.prune:
        names = [name for name, owner in left.items() if owner in empty]
    elif len(empty) == len(files):
        names = [name for name, row in known.items() if row.owner is None or row.owner in empty]
    else:
        names = []
    if names:
        raise WouldRemoveAll(
            f"the jobs file holds no [jobs.NAME], and the database has {len(names)} job{'s' * (len(names) != 1)} "
            f"({', '.join(names[:5])}{', ...' * (len(names) > 5)}): expected at least one. Nothing was removed. Put "
            "the file right; to remove every job of it, run `scorebeat apply --remove-all`"
        )


def _require_keys(p: Producer, changed: Sequence[Fit]) -> None:
    """Raises UsageError for new or changed jobs whose keys no run can use, or only at a great cost."""
    mistakes: list[str] = []
    for fitted in changed:
        with planning_cursor.reading(p.engine) as reader:
            try:
                mistakes += filter(None, [require_good_keys(reader, fitted)])
                if fitted.job.truth is not None:
                    truth.require_one_row_a_key(reader, fitted.job, truth.read_columns(reader, fitted.job))
            except (QueryError, DBAPIError) as error:
                fails = f"jobs.{fitted.job.name}.query fails in PostgreSQL: {one_line(getattr(error, 'orig', error))}"
                mistakes.append(fails if isinstance(error, DBAPIError) else str(error))
    if mistakes:
        raise UsageError(_in_one_message(mistakes))


def _note_old_queries(connection: Connection, found: _Examined) -> None:
    """Note how many predictions come from an old query: a changed query alone does not score their rows again."""
    for fitted in found.fits:
        job, before = fitted.job, found.known.get(fitted.job.name)
        target = prediction_sets.shown(connection, job, fitted.version.version)
        if before is None or target is None or job.rescore == "every-run":
            continue
        if (before.job.query, before.job.parameters) == (job.query, job.parameters):
            continue
        origin = old_queries.count(connection, target, job)
        if origin.other + origin.unknown:
            found.of_old_query.append(job.name)
            found.notes.append(
                f"jobs.{job.name}: {origin.other + origin.unknown:,} predictions come from the query that it had "
                f"before, and stay. `scorebeat enqueue {job.name} --rescore` scores every row anew, as `apply "
                "--rescore` does at once; readers see the new predictions when the run has ended"
            )


def _applied(applied: jobs.AppliedJobs, found: _Examined, by: str) -> Applied:
    """The report. Logs what happened, so it is called when all is committed."""
    for tick in applied.missed:
        tick.log()
    emit("jobs.applied", by=by, added=applied.added, changed=applied.changed, removed=applied.removed)
    return Applied(
        applied.added, applied.changed, applied.removed, applied.same, found.notes, of_old_query=found.of_old_query
    )


def _in_one_message(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"{mistakes[0].rstrip('.')}. Nothing was applied."
    return "\n  ".join([f"{len(mistakes)} jobs cannot be applied; nothing was:", *mistakes])
