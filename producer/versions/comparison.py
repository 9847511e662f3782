"""Compares a candidate version with another one: the report before a publication, and the objections to it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import SignatureError, UnknownName, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.predictions import comparison as agreement
from scorebeat.db.predictions import prediction_sets, stored_keys, views
from scorebeat.db.predictions.comparison import Agreement
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source import source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.values import parameter_values
from scorebeat.models.contract import Signature
from scorebeat.producer.context import Producer

MIN_COVERAGE = 0.95
CONSTANT_FROM = 100
"""From this number of rows on, equal outputs for all of them are no accident."""


@dataclass(frozen=True)
class VersionComparison:
    """The comparison of two versions for one job."""

    job: str
    model: str
    other: str
    coverage: float | None
    """The share that `model` scored of the rows in the job's query that `other` scored; None if `other` scored none."""
    agreement: Agreement | None
    """None if the job has no table for one of the versions."""
    never_scored: tuple[str, ...]
    """The versions, of the two, without predictions for the job."""


def compare(p: Producer, name: str, version: int, other: int | None = None) -> list[VersionComparison]:
    """Compare the versions, one entry for each job that uses the model; by default `other` is the published version.

    Changes nothing. Raises UnknownName, UsageError if there is nothing to compare, SignatureError if predictions are
    stored with another key than the job's, or QueryError.
    """
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        candidate = model_versions.get(reader, name, version)
        beside = (
            model_versions.get(reader, name, other) if other is not None else model_versions.published(reader, name)
        )
        if beside is None:
            raise UsageError(
                f"no version of model {name!r} is published: name one to compare {candidate} with, by --with"
            )
        if beside.version == candidate.version:
            raise UsageError(f"model {candidate} is the published version: name another to compare it with, by --with")
        users = [row.job for row in jobs.listing(reader) if row.job.model_name == name]
        if not users:
            raise UsageError(f"no job uses model {name!r}, so nothing was scored with it")
        return [_compared(reader, job, candidate, beside) for job in users]


def objections(reader: Connection, name: str, version: int, min_coverage: float) -> list[str]:
    """Why the version should not be published, a sentence each; empty if readers see it already, or see nothing."""
    candidate, now = model_versions.get(reader, name, version), model_versions.published(reader, name)
    found = _of_outputs(candidate, now) if now is not None and now.version != candidate.version else []
    for job in [row.job for row in jobs.listing(reader) if row.job.model == name]:
        shown = views.read_now(reader, job.name)
        before = now if shown is None else model_versions.of_set(reader, shown)
        if before is None or str(before) == str(candidate):
            continue
        if str(before) != str(now):
            found += [f"job {job.name}: {why}" for why in _of_outputs(candidate, before)]
        found += [f"job {job.name}: {why}" for why in _of_job(reader, job, candidate, before, shown, min_coverage)]
    return found


def objections_to_job(reader: Connection, job: Job, min_coverage: float = MIN_COVERAGE) -> list[str]:
    """Why the changed job should not be applied, a sentence each: what readers of its view would lose.

    The same objections as for a publication, for one job that changes its model or its pin. Empty if readers keep the
    same version, or see nothing now. Raises QueryError.
    """
    shown = views.read_now(reader, job.name)
    if shown is None:
        return []
    before = model_versions.of_set(reader, shown)
    rows = agreement.count(reader, shown)
    lost = f"readers would lose {rows:,} predictions of {before}"
    try:
        candidate = model_versions.of_job(reader, job)
    except UnknownName:
        stays = job.pinned_version is None and job.model_name == before.name
        reason = f"model {job.model} has no published version yet, and {lost} to its first"
        return [reason] if rows and not stays else []
    if not rows or str(candidate) == str(before):
        return []
    found = _of_outputs(candidate, before)
    try:
        found += _of_job(reader, job, candidate, before, shown, min_coverage)
    except SignatureError:
        found.append(f"its key is another now, and {lost}")
    mine = prediction_sets.shown(reader, job, candidate.version)
    if not found and (mine is None or not agreement.has_rows(reader, mine)):
        found.append(f"{candidate} was never scored, and {lost}, whose rows the query does not give any more")
    return found


def _of_outputs(candidate: Version, now: Version) -> list[str]:
    outputs, before = (Signature.from_json(v.signature).outputs for v in (candidate, now))
    gone = [output for output in before.names if output not in outputs.names]
    found = [f"it does not give {', '.join(gone)}, which {now} gives"] if gone else []
    return found + [f"it gives {why}" for why in agreement.changed(outputs, before)]


def _of_job(
    reader: Connection, job: Job, candidate: Version, now: Version, theirs: PredictionSet | None, min_coverage: float
) -> Iterator[str]:
    mine = prediction_sets.shown(reader, job, candidate.version)
    if mine is not None:
        yield from _constant(reader, mine, theirs, now)
    if theirs is None:
        return
    rows, scored = _covered(reader, job, mine, theirs)
    if rows and not scored:
        yield f"it was never scored, and readers would lose {rows:,} predictions of {now}"
    elif rows and scored < min_coverage * rows:
        yield (
            f"it scored {scored:,} of the {rows:,} rows that {now} scored "
            f"({share(scored / rows)}; {share(min_coverage)} are wanted)"
        )


def _constant(reader: Connection, mine: PredictionSet, theirs: PredictionSet | None, now: Version) -> Iterator[str]:
    """Objections to constant outputs: all outputs are constant, or one is that varies in the present version."""
    same = agreement.constant(reader, mine, CONSTANT_FROM)
    if not same:
        return
    if same == agreement.outputs(reader, mine):
        yield "it gives every row the same outputs"
    elif theirs is not None:
        varied = set(agreement.outputs(reader, theirs)) - set(agreement.constant(reader, theirs))
        now_constant = [output for output in same if output in varied]
        if now_constant:
            yield f"it gives every row the same {', '.join(now_constant)}, and {now} does not"


def _covered(reader: Connection, job: Job, mine: PredictionSet | None, theirs: PredictionSet) -> tuple[int, int]:
    """Rows that `theirs` scored, and how many of these `mine` scored. Raises SignatureError for another key."""
    now = source.read_columns(reader, job, parameter_values.of_no_run(reader))
    for prediction_set in (mine, theirs):
        if prediction_set is not None:
            stored_keys.require_comparable(reader, now, prediction_set)
    return agreement.covered(reader, now, mine, theirs, of_all_runs=parameter_values.differ_by_run(reader, job))


def _compared(reader: Connection, job: Job, candidate: Version, beside: Version) -> VersionComparison:
    mine, theirs = (prediction_sets.shown(reader, job, v.version) for v in (candidate, beside))
    both = (mine, str(candidate)), (theirs, str(beside))
    empty = tuple(version for one, version in both if one is None or not agreement.has_rows(reader, one))
    if theirs is None:
        return VersionComparison(job.name, str(candidate), str(beside), None, None, empty)
    rows, scored = _covered(reader, job, mine, theirs)
    found = agreement.compare(reader, mine, theirs) if mine is not None else None
    return VersionComparison(job.name, str(candidate), str(beside), scored / rows if rows else None, found, empty)


def unscored(p: Producer, name: str, version: int) -> list[str]:
    """Jobs that follow the model and show no prediction of this version. Raises UnknownName."""
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        model_versions.get(reader, name, version)
        followers = [row.job for row in jobs.listing(reader) if row.job.model == name]
        shown = [(job, prediction_sets.shown(reader, job, version)) for job in followers]
        return [job.name for job, one in shown if one is None or not agreement.has_rows(reader, one)]


def share(part: float) -> str:
    """A share in percent; a part that is not the whole is never shown as 100 %."""
    return f"{math.floor(part * 1000 + 1e-9) / 10:g} %"
