"""Compares a job's stored predictions with what really happened, by model version and week."""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
from sqlalchemy import Connection

from scorebeat.core.errors import QueryError, ScorebeatError, SignatureError, UsageError, one_line
from scorebeat.core.events import emit
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.schedule import Schedule, find_zone
from scorebeat.db.batch_io import truth_rows
from scorebeat.db.batch_io.truth_rows import Joined, Week
from scorebeat.db.connect import database_clock, database_errors
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.evidence import quality
from scorebeat.db.ledger.evidence.quality import JobQuality
from scorebeat.db.predictions import prediction_sets, views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source import truth
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.truth import LABEL, Truth
from scorebeat.models.contract import Signature
from scorebeat.models.outputs import quality as metrics
from scorebeat.models.outputs.quality import CompareAs, Target
from scorebeat.producer.context import Producer

NEWEST_WEEKS = 13
"""Weeks that are computed anew each time: labels in them may still be corrected. Of older ones those with more rows."""
NIGHTLY = "0 3 * * *"
"""When the truth is read, in the job's time zone; after the first time, and after a change of the job."""
LASTS = timedelta(hours=6)
"""How long a reading may take before another process begins it again."""
AHEAD = timedelta(days=1)
"""The truth may be of a zone in which the next week has begun."""
SOON = timedelta(hours=1)
"""When it is read again after an error that may pass."""


@dataclass(frozen=True)
class _Version:
    """One version's predictions, and the weeks to compute."""

    joined: Joined
    target: Target
    compared_as: CompareAs
    weeks: dict[date, Week]
    others: dict[date, Week]
    """Weeks that are not computed again, of which only the counts of predictions are new."""


def measure(p: Producer, name: str) -> JobQuality:
    """Read the truth of a job now, and compute its weeks. Raises UnknownName, UsageError for a job without a truth, or
    the error that is stored as the failure, too."""
    with reachable(p.url), p.engine.begin() as connection:
        job = jobs.get(connection, name).job
        require_truth(job)
        quality.begin(connection, name, LASTS)
    _measure(p, job)
    with p.engine.connect() as connection:
        return quality.of_job(connection, name)


def measure_if_due(p: Producer, name: str) -> bool:
    """As `measure`, unless the job is not due or another process has begun. A failure is stored, and not raised."""
    with p.engine.begin() as connection:
        if not quality.take(connection, name, LASTS):
            return False
        job = jobs.get(connection, name).job
    try:
        _measure(p, job)
    except ScorebeatError:
        return False
    return True


def require_truth(job: Job) -> None:
    """Raises UsageError for a job without a truth."""
    if job.truth is None:
        raise UsageError(
            f"jobs.{job.name} has no truth to compare its predictions with; expected in jobs.toml `truth`, a query of "
            f"the columns {', '.join(job.key)}, label, and perhaps known_at"
        )


def require_comparable(connection: Connection, url: str, job: Job, rows: str, outputs: pa.Schema | None) -> Truth:
    """The truth of a new or changed job, checked against its query `rows` and the outputs of its model, if it has one.

    Raises QueryError or SignatureError.
    """
    found = truth.describe(connection, url, job)
    truth.require_same_key(connection, job, found, rows)
    if outputs is not None:
        try:
            metrics.target(outputs).compared_as(found.label)
        except SignatureError as error:
            raise SignatureError(f"jobs.{job.name}.truth: {error}") from None
    return found


def _measure(p: Producer, job: Job) -> None:
    """Compute and store; then store how the reading ended. Raises what failed."""
    try:
        computed = _compute(p, job)
    except Exception as error:  # whatever it is, people who look at the job see that its figures are old
        reason = one_line(database_errors.message(error))
        is_of_database = database_errors.is_database_error(error)
        if is_of_database:
            advice = database_errors.advice(getattr(error, "orig", None) or error)
            reason = f"jobs.{job.name}.truth cannot be read: {reason}{advice}"
        with p.engine.begin() as connection:
            now = database_clock.now(connection)
            again_at = now + SOON if database_errors.passes(error) else _night(job, now)
            quality.end(connection, job.name, again_at, reason)
        emit("quality.failed", job=job.name, reason=reason)
        if is_of_database:
            raise ScorebeatError(reason) from None
        raise
    with p.engine.begin() as connection:
        quality.end(connection, job.name, _night(job, database_clock.now(connection)))
    emit("quality.computed", job=job.name, versions=computed[0], weeks=computed[1], rows=computed[2])


def _night(job: Job, now: datetime) -> datetime:
    return Schedule.parse(NIGHTLY, job.timezone).next_due(now)


def _compute(p: Producer, job: Job) -> tuple[int, int, int]:
    """The number of versions, weeks and rows that were computed. Raises QueryError or SignatureError; what could be
    computed is stored then, too."""
    versions, wrong = _versions(p, job)
    weeks = rows = 0
    for version in versions:
        scored = version.joined.predictions
        wanted = {monday: week.rows for monday, week in version.weeks.items()}
        samples = version.joined.samples(p.url, wanted) if wanted else ()
        found = {monday: metrics.measure(version.target, version.compared_as, sample) for monday, sample in samples}
        with p.engine.begin() as connection:
            others = {monday: (week.predictions, week.with_truth) for monday, week in version.others.items()}
            quality.note_known(connection, job.name, scored.model, scored.model_version, others)
            for monday, measured in found.items():
                counts = asdict(version.weeks[monday])
                quality.store(connection, job.name, scored.model, scored.model_version, monday, counts, measured)
        weeks, rows = weeks + len(found), rows + sum(wanted[monday] for monday in found)
    if wrong:
        raise SignatureError("; ".join(wrong))
    return len(versions), weeks, rows


def _versions(p: Producer, job: Job) -> tuple[list[_Version], list[str]]:
    """The versions with weeks to compute, and what is wrong with others, in one snapshot. Raises QueryError."""
    versions: list[_Version] = []
    wrong: list[str] = []
    labels = null_labels = predictions = 0
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        found = truth.read_columns(reader, job)
        truth.require_one_row_a_key(reader, job, found)
        if truth.is_empty(reader, found):
            raise QueryError(
                f"jobs.{job.name}.truth returns no row; expected one for each key whose outcome is known by now"
            )
        now = database_clock.now(reader)
        first_new, last = _monday(now, job) - timedelta(weeks=NEWEST_WEEKS - 1), _monday(now + AHEAD, job)
        for shown in prediction_sets.shown_of_each_version(reader, job.name):
            try:
                joined, target, compared_as = _joined(reader, job, found, shown)
            except (QueryError, SignatureError) as error:
                wrong.append(f"{shown.model}/{shown.model_version}: {error}")
                continue
            weeks = joined.weeks(reader)
            to_come = [monday for monday, week in weeks.items() if monday > last and week.rows]
            if to_come:
                rows = sum(weeks.pop(monday).rows for monday in to_come)
                wrong.append(
                    f"jobs.{job.name}.truth: {rows:,} rows with a label have a known_at in a week to come, up to that "
                    f"of {max(to_come)}; expected the time at which the label became known. They are left out"
                )
            labels += sum(week.rows for week in weeks.values())
            null_labels += sum(week.null_labels for week in weeks.values())
            predictions += sum(week.predictions for week in weeks.values())
            stored = quality.known_rows(reader, job.name, shown.model, shown.model_version)
            wanted = {
                monday: week
                for monday, week in weeks.items()
                if week.rows and (monday >= first_new or week.rows > stored.get(monday, 0))
            }
            others = {monday: week for monday, week in weeks.items() if monday in stored and monday not in wanted}
            if wanted or others:
                versions.append(_Version(joined, target, compared_as, wanted, others))
    if predictions and not labels and not wrong:
        without = f"the label is NULL in all {null_labels:,} rows that have a prediction"
        none = "no key of it has a prediction"
        raise QueryError(
            f"jobs.{job.name}.truth: {without if null_labels else none}; expected rows with a label under the keys of "
            f"the {predictions:,} predictions"
        )
    return versions, wrong


def _joined(reader: Connection, job: Job, found: Truth, shown: PredictionSet) -> tuple[Joined, Target, CompareAs]:
    """The version's predictions as they are compared. Raises QueryError or SignatureError."""
    outputs = Signature.from_json(model_versions.of_set(reader, shown).signature).outputs
    target = metrics.target(outputs)
    try:
        compared_as = target.compared_as(found.label)
    except SignatureError as error:
        raise SignatureError(f"jobs.{job.name}.truth: {error}") from None
    truth.require_same_key(reader, job, found, f"(SELECT * {views.rows(shown)}) AS p")
    columns = [
        truth_rows.column("q", LABEL, found.label, compared_as),
        truth_rows.column("p", target.output, target.type, compared_as),
        *(truth_rows.column("p", name, pa.float64(), "float") for name in target.probabilities),
    ]
    return Joined(found, shown, job.timezone, columns), target, compared_as


def _monday(now: datetime, job: Job) -> date:
    today = now.astimezone(find_zone(job.timezone)).date()
    return today - timedelta(days=today.weekday())
