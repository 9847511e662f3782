"""A candidate version beside another: the report before it is published, and what speaks against that."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs import Job
from scorebeat.db import agreement, jobs, planning, prediction_sets, source, stored_keys, versions
from scorebeat.db.agreement import Agreement
from scorebeat.db.engine import reachable
from scorebeat.db.prediction_sets import PredictionSet
from scorebeat.db.versions import Version
from scorebeat.models.contract import Signature
from scorebeat.producer.context import Producer

MIN_COVERAGE = 0.95
CONSTANT_FROM = 100
"""So many rows that all get the same outputs are no accident."""


@dataclass(frozen=True)
class Compared:
    """One job's predictions of two versions."""

    job: str
    model: str
    other: str
    coverage: float | None
    """Of the rows in the job's query that `other` scored, the share that `model` scored; None: it scored none."""
    agreement: Agreement | None
    """None when the job has no table for one of the versions."""
    never_scored: tuple[str, ...]
    """Those of the two that have no predictions for the job."""


def compare(p: Producer, name: str, version: int, other: int | None = None) -> list[Compared]:
    """The versions beside each other, a line a job that uses the model; `other` is the published one unless told.

    Changes nothing. Raises UnknownName, UsageError when there is nothing to compare, SignatureError where
    predictions are stored under another key than the job's, or QueryError.
    """
    with reachable(p.url), planning.reading(p.engine) as reader:
        candidate = versions.get(reader, name, version)
        beside = versions.get(reader, name, other) if other is not None else versions.published(reader, name)
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
    """Why the version should not be published in place of today's, a sentence each; none for the published one."""
    candidate, now = versions.get(reader, name, version), versions.published(reader, name)
    if now is None or now.version == candidate.version:
        return []
    outputs, before = (Signature.from_json(v.signature).outputs for v in (candidate, now))
    gone = [output for output in before.names if output not in outputs.names]
    found = [f"it does not give {', '.join(gone)}, which {now} gives"] if gone else []
    found += [f"it gives {why}" for why in agreement.changed(outputs, before)]
    followers = [row.job for row in jobs.listing(reader) if row.job.model == name]
    return found + [why for job in followers for why in _of_job(reader, job, candidate, now, min_coverage)]


def _of_job(reader: Connection, job: Job, candidate: Version, now: Version, min_coverage: float) -> Iterator[str]:
    mine, theirs = (prediction_sets.shown(reader, job, v.version) for v in (candidate, now))
    if mine is not None:
        yield from _constant(reader, job, mine, theirs, now)
    if theirs is None:
        return
    rows, scored = _covered(reader, job, mine, theirs)
    if rows and not scored:
        yield f"job {job.name}: it was never scored, and readers would lose {rows:,} predictions of {now}"
    elif rows and scored < min_coverage * rows:
        yield (
            f"job {job.name}: it scored {scored:,} of the {rows:,} rows that {now} scored "
            f"({share(scored / rows)}; {share(min_coverage)} are wanted)"
        )


def _constant(
    reader: Connection, job: Job, mine: PredictionSet, theirs: PredictionSet | None, now: Version
) -> Iterator[str]:
    """An output that never changes is a reason where today's does, or where no other output changes either."""
    same = agreement.constant(reader, mine, CONSTANT_FROM)
    if not same:
        return
    if same == agreement.outputs(reader, mine):
        yield f"job {job.name}: it gives every row the same outputs"
    elif theirs is not None:
        varied = set(agreement.outputs(reader, theirs)) - set(agreement.constant(reader, theirs))
        dull = [output for output in same if output in varied]
        if dull:
            yield f"job {job.name}: it gives every row the same {', '.join(dull)}, and {now} does not"


def _covered(reader: Connection, job: Job, mine: PredictionSet | None, theirs: PredictionSet) -> tuple[int, int]:
    """Raises SignatureError where predictions are stored under another key than the job's."""
    now = source.read_columns(reader, job)
    for one in (mine, theirs):
        if one is not None:
            stored_keys.require_comparable(reader, now, one)
    return agreement.covered(reader, now, mine, theirs)


def _compared(reader: Connection, job: Job, candidate: Version, beside: Version) -> Compared:
    mine, theirs = (prediction_sets.shown(reader, job, v.version) for v in (candidate, beside))
    both = (mine, str(candidate)), (theirs, str(beside))
    empty = tuple(version for one, version in both if one is None or not agreement.has_rows(reader, one))
    if theirs is None:
        return Compared(job.name, str(candidate), str(beside), None, None, empty)
    rows, scored = _covered(reader, job, mine, theirs)
    found = agreement.compare(reader, mine, theirs) if mine is not None else None
    return Compared(job.name, str(candidate), str(beside), scored / rows if rows else None, found, empty)


def unscored(p: Producer, name: str, version: int) -> list[str]:
    """Jobs that follow the model and show no prediction of this version. Raises UnknownName."""
    with reachable(p.url), planning.reading(p.engine) as reader:
        versions.get(reader, name, version)
        followers = [row.job for row in jobs.listing(reader) if row.job.model == name]
        shown = [(job, prediction_sets.shown(reader, job, version)) for job in followers]
        return [job.name for job, one in shown if one is None or not agreement.has_rows(reader, one)]


def share(part: float) -> str:
    """As people read it; what is not all is never shown as 100 %."""
    return f"{math.floor(part * 1000 + 1e-9) / 10:g} %"
