"""The quality of predictions by version and week, and the readings of the truth that it comes from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.errors import shortened
from scorebeat.db.ledger import jobs


@dataclass(frozen=True)
class QualityWeek:
    """One model version in one week."""

    model: str
    version: int
    week: date
    """Its Monday, in the job's time zone."""
    rows: int
    """Predictions whose truth became known in the week."""
    null_labels: int
    """Rows of the truth without a label; they are not among `rows`."""
    scored_after: int
    """Rows that were scored after the truth was known."""
    predictions: int
    """Predictions that were made in the week."""
    with_truth: int
    """Of these, those whose truth is known by now."""
    metrics: dict[str, Any]
    computed_at: datetime


@dataclass(frozen=True)
class JobQuality:
    """What is known of a job's quality."""

    job: str
    weeks: tuple[QualityWeek, ...]
    """The newest week first, in it the versions side by side."""
    read_at: datetime | None
    """When the truth was last read to its end."""
    failure: str | None
    """Why the last reading failed."""
    next_at: datetime | None
    """When it is read again."""


_IS_READING = "SELECT FROM scorebeat.truth_readings WHERE finished_at IS NULL AND next_at > clock_timestamp()"
"""A process reads a truth now."""
_DUE = (
    "SELECT j.name FROM scorebeat.jobs j LEFT JOIN scorebeat.truth_readings t ON t.job = j.name"
    " WHERE j.removed_at IS NULL AND j.spec ->> 'truth' IS NOT NULL AND (t.job IS NULL"
    " OR t.next_at <= clock_timestamp() OR (t.begun_at < j.applied_at AND t.finished_at IS NOT NULL))"
)


def due(connection: Connection) -> list[str]:
    """Jobs whose truth was not read since they were changed, or is to be read again by now.

    None while a process reads one: it goes on with the others, and plans need the rest of the processes.
    """
    if connection.execute(text(f"SELECT EXISTS ({_IS_READING})")).scalar_one():
        return []
    return list(connection.execute(text(f"{_DUE} ORDER BY j.name")).scalars())


_BEGIN = (
    "INSERT INTO scorebeat.truth_readings AS t (job, begun_at, next_at)"
    " SELECT name, clock_timestamp(), clock_timestamp() + CAST(:lasts AS interval) FROM ({jobs}) AS j WHERE name = :job"
    " ON CONFLICT (job) DO UPDATE SET begun_at = EXCLUDED.begun_at, next_at = EXCLUDED.next_at, finished_at = NULL,"
    " failure = CASE WHEN t.finished_at IS NULL AND t.next_at <= clock_timestamp() THEN 'the reading that began at '"
    " || to_char(t.begun_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC did not end: its process died, or it"
    " takes too long' ELSE t.failure END"
)


def take(connection: Connection, job: str, lasts: timedelta) -> bool:
    """Begin a reading of a job that is due, for a process that has so long; False if another process has begun it."""
    if connection.execute(text(f"SELECT EXISTS ({_IS_READING} AND job <> :job)"), {"job": job}).scalar_one():
        return False
    taken = f"{_BEGIN.format(jobs=_DUE)} WHERE t.next_at <= clock_timestamp() OR t.finished_at IS NOT NULL"
    return connection.execute(text(taken), {"job": job, "lasts": lasts}).rowcount == 1


def begin(connection: Connection, job: str, lasts: timedelta) -> None:
    """Begin a reading, whether or not it is due."""
    connection.execute(text(_BEGIN.format(jobs="SELECT name FROM scorebeat.jobs")), {"job": job, "lasts": lasts})


def end(connection: Connection, job: str, next_at: datetime, failure: str | None = None) -> None:
    """The reading is over, with this failure or none."""
    connection.execute(
        text(
            "UPDATE scorebeat.truth_readings SET finished_at = clock_timestamp(), next_at = :next, failure = :failure"
            " WHERE job = :job"
        ),
        {"job": job, "next": next_at, "failure": failure and shortened(failure)},
    )


def note_known(
    connection: Connection, job: str, model: str, version: int, weeks: Mapping[date, tuple[int, int]]
) -> None:
    """Of weeks that are stored, and are not computed again: predictions made in them, and with a truth by now.

    Only if more have one than before: predictions that were pruned take no truth along.
    """
    connection.execute(
        text(
            "UPDATE scorebeat.quality q SET predictions = n.predictions, with_truth = n.with_truth"
            " FROM unnest(CAST(:weeks AS date[]), CAST(:predictions AS bigint[]), CAST(:with_truth AS bigint[]))"
            " AS n(week, predictions, with_truth) WHERE q.job = :job AND q.model = :model AND q.version = :version"
            " AND q.week = n.week AND q.with_truth < n.with_truth"
        ),
        {
            "job": job,
            "model": model,
            "version": version,
            "weeks": list(weeks),
            "predictions": [made for made, _ in weeks.values()],
            "with_truth": [known for _, known in weeks.values()],
        },
    )


def known_rows(connection: Connection, job: str, model: str, version: int) -> dict[date, int]:
    """For each week that is stored, its number of rows."""
    found = connection.execute(
        text("SELECT week, rows FROM scorebeat.quality WHERE job = :job AND model = :model AND version = :version"),
        {"job": job, "model": model, "version": version},
    )
    return {row.week: row.rows for row in found}


def store(
    connection: Connection, job: str, model: str, version: int, week: date, counts: Mapping[str, int], metrics: Any
) -> None:
    """Store a week of a version, or replace it. `counts` are the numbers of `QualityWeek`."""
    names = ("rows", "null_labels", "scored_after", "predictions", "with_truth")
    values = {name: counts[name] for name in names}
    connection.execute(
        text(
            f"INSERT INTO scorebeat.quality (job, model, version, week, {', '.join(names)}, metrics) VALUES"
            f" (:job, :model, :version, :week, :{', :'.join(names)}, CAST(:metrics AS jsonb))"
            f" ON CONFLICT (job, model, version, week) DO UPDATE SET"
            f" {', '.join(f'{name} = EXCLUDED.{name}' for name in names)}, metrics = EXCLUDED.metrics,"
            " computed_at = now()"
        ),
        {"job": job, "model": model, "version": version, "week": week, "metrics": json.dumps(metrics), **values},
    )


IS_NO_WEEK_TO_COME = "week <= (now() AT TIME ZONE 'UTC')::date + 1"
"""SQL condition: the week has begun, in whatever zone. Others are of a clock, or of truths, that were ahead."""


def of_job(connection: Connection, job: str) -> JobQuality:
    """All weeks of the job, and how the last reading ended. Raises UnknownName."""
    jobs.require_known(connection, job)
    weeks = connection.execute(
        text(
            "SELECT model, version, week, rows, null_labels, scored_after, predictions, with_truth, metrics,"
            " computed_at FROM scorebeat.quality"
            f" WHERE job = :job AND {IS_NO_WEEK_TO_COME} ORDER BY week DESC, model, version DESC"
        ),
        {"job": job},
    )
    reading = connection.execute(
        text("SELECT finished_at, failure, next_at FROM scorebeat.truth_readings WHERE job = :job"), {"job": job}
    ).one_or_none()
    read = (None, None, None) if reading is None else tuple(reading)
    return JobQuality(job, tuple(QualityWeek(**row._mapping) for row in weeks), *read)


def forget(connection: Connection, job: str) -> None:
    """The job is dropped: one that gets its name later has another truth."""
    for table in ("quality", "truth_readings"):
        connection.execute(text(f"DELETE FROM scorebeat.{table} WHERE job = :job"), {"job": job})


def failures(connection: Connection) -> dict[str, str]:
    """Why the last reading failed, by job; of jobs with a truth."""
    rows = connection.execute(
        text(
            "SELECT t.job, t.failure FROM scorebeat.truth_readings t JOIN scorebeat.jobs j ON j.name = t.job"
            " WHERE t.failure IS NOT NULL AND j.removed_at IS NULL AND j.spec ->> 'truth' IS NOT NULL ORDER BY t.job"
        )
    )
    return {row.job: row.failure for row in rows}
