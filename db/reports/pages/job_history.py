"""The past of one job: its days, its newest runs, and what the profiles of these show over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, text

from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.drift.finding import Finding
from scorebeat.drift.histogram import Histogram, histogram
from scorebeat.drift.profile import Profile

MOST_BYTES = 16_000_000
"""Of profiles that one report reads: those of a model of a thousand inputs have 4 MB each."""
MOST_LABELS = 12
"""An output with more different values is shown by its quantiles."""
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Day:
    """The runs that were due, or without a due time of the past were requested, on one day in the job's time zone."""

    on: date
    states: tuple[tuple[RunState, int], ...]
    """Runs by state."""
    newest_run: int


@dataclass(frozen=True)
class RunOutputs:
    """What a run predicted, by its sample."""

    run: int
    version: int
    rows: int
    labels: dict[str, dict[str, float]]
    """By output with few values: the share of each value, from 0 to 1."""
    quantiles: dict[str, tuple[float, ...]]
    """By other output with numbers: its values at `QUANTILES`."""


@dataclass(frozen=True)
class MeasureHistogram:
    """A measure of a run beside its reference."""

    run: int
    finding: Finding
    reference: str
    is_newer_reference: bool
    """The reference was replaced since the run was compared with it."""
    histogram: Histogram | None
    """None if one of both has no value, or their types cannot be compared."""


def days(connection: Connection, job: str, timezone: str, weeks: int) -> list[Day]:
    """Days of the runs that were requested in the last so many weeks, the oldest first."""
    since = database_clock.now(connection) - timedelta(weeks=weeks)
    rows = connection.execute(
        text(
            "SELECT (least(due_at, created_at) AT TIME ZONE :timezone)::date AS day, state, count(*) AS runs,"
            " max(id) AS newest FROM scorebeat.runs WHERE job = :job AND created_at > :since"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        {"job": job, "timezone": timezone, "since": since},
    ).all()
    return [
        Day(
            day,
            tuple((RunState(row.state), row.runs) for row in rows if row.day == day),
            max(row.newest for row in rows if row.day == day),
        )
        for day in sorted({row.day for row in rows})
    ]


def outputs_of_runs(connection: Connection, job: str, limit: int) -> list[RunOutputs]:
    """What the newest runs with a sample predicted, the oldest first; fewer runs if their profiles are large."""
    rows = connection.execute(
        text(
            "SELECT p.run_id, p.profile, r.model_version FROM (SELECT run_id, profile, sum(octet_length(profile))"
            " OVER (ORDER BY run_id DESC) AS bytes FROM (SELECT run_id, profile FROM scorebeat.run_profiles"
            " WHERE job = :job AND rows > 0 ORDER BY run_id DESC LIMIT :limit) newest) p"
            " JOIN scorebeat.runs r ON r.id = p.run_id WHERE p.bytes <= :most ORDER BY p.run_id"
        ),
        {"job": job, "limit": limit, "most": MOST_BYTES},
    )
    found = []
    for row in rows:
        profile = Profile.from_bytes(bytes(row.profile))
        labels, quantiles = {}, {}
        for name, column in profile.outputs.items():
            counts = column.counts()
            if 0 < len(counts) <= MOST_LABELS:
                whole = sum(counts.values())
                labels[name] = {column.name(label): count / whole for label, count in counts.items()}
            elif column.kind == "number" and column.numbers.n:
                quantiles[name] = tuple(column.quantiles(QUANTILES))
        found.append(RunOutputs(row.run_id, row.model_version, profile.rows, labels, quantiles))
    return found


def histograms(
    connection: Connection, job: str, run: int, measures: Sequence[tuple[str, str]]
) -> list[MeasureHistogram]:
    """The distributions of these measures, each a side and a name, that the run of the job was compared by; unknown
    ones, and those of another job's run, are left out."""
    row = connection.execute(
        text(
            "SELECT p.profile, p.findings, f.profile AS reference, f.source, f.made_at > p.compared_at AS is_newer"
            " FROM scorebeat.run_profiles p JOIN scorebeat.reference_profiles f ON f.id = p.reference_id"
            " WHERE p.job = :job AND p.run_id = :run AND p.findings IS NOT NULL"
        ),
        {"job": job, "run": run},
    ).one_or_none()
    if row is None:
        return []
    now, before = Profile.from_bytes(bytes(row.profile)), Profile.from_bytes(bytes(row.reference))
    by_measure = {(one.side, one.name): one for one in (Finding.from_json(data) for data in row.findings)}
    found = []
    for side, name in measures:
        sides = ((profile.inputs if side == "input" else profile.outputs) for profile in (before, now))
        ours, theirs = (columns.get(name) for columns in sides)
        if (side, name) in by_measure and ours is not None and theirs is not None:
            drawn = histogram(ours, theirs)
            found.append(MeasureHistogram(run, by_measure[side, name], row.source, row.is_newer, drawn))
    return found
