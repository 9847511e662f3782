"""Watermarks: up to where in its cursor a prediction set is known to be whole.

A run that planned everything leaves one with its row, in the transaction that finishes the plan. It counts as long as
nothing was left out: all batches of the run are committed, and no earlier run of the set was opened again since, and
ended otherwise; nor did a later run that began below the watermark.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, text

from scorebeat.db.source.cursor import Cursor


@dataclass(frozen=True)
class Watermark:
    """Each row that the plan of its run could see, and whose value is below `value`, is scored or in quarantine."""

    value: int
    swept_at: datetime
    """When a run last compared every key."""


@dataclass(frozen=True)
class Planned:
    """What a plan leaves with its run."""

    of: str
    """What a later plan must have in common with this one, by `made_of`."""
    value: int | None
    """The watermark for the next plan; None: the next one compares every key."""
    compared_from: int | None
    """The watermark that this plan began at; None: it compared every key."""
    swept_at: datetime | None
    """When a run last compared every key; None: this one did."""
    highest: int | None = None
    """The largest value of the cursor that the plan saw, for a cursor of whole numbers."""
    missed: int | None = None
    """Pending rows that the watermark would have left out; None: nobody looked."""

    @property
    def column(self) -> str:
        """Name of the cursor."""
        return str(json.loads(self.of)[0])


def made_of(cursor: Cursor, parts: Sequence[object]) -> str:
    """The column and a digest of all else that must stay the same: the query, its key, the types of its columns."""
    return json.dumps([cursor.name, cursor.type, sha256(json.dumps(parts).encode()).hexdigest()])


@dataclass(frozen=True)
class Compared:
    """What a plan with a cursor compared."""

    since: str | None
    """From which value of which column, in words; None: every key."""
    missed: int
    """Rows that it found and that plans before it had missed."""


_LEFT_OUT = (
    "SELECT FROM scorebeat.runs o WHERE o.prediction_set_id = r.prediction_set_id AND o.finished_at >= r.planned_at"
    " AND (o.state NOT IN ('succeeded', 'partial') OR EXISTS"
    " (SELECT FROM scorebeat.batches b WHERE b.run_id = o.id AND b.state <> 'committed'))"
    " AND (o.id <= r.id OR ((o.compared_from IS NULL OR o.compared_from < r.watermark)"
    " AND EXISTS (SELECT FROM scorebeat.batches b WHERE b.run_id = o.id)))"
)
"""Runs that left rows pending after the plan of run `r` had looked, and whose values may be below its watermark.

A later run has such rows if it began below: it compared every key, or was planned when `r` did not count yet.
"""


def latest(connection: Connection, job: str, set_id: int, of: str) -> Watermark | None:
    """The watermark that a plan may begin at."""
    row = connection.execute(
        text(
            "SELECT r.watermark, r.swept_at FROM scorebeat.runs r WHERE r.job = :job AND r.prediction_set_id = :set_id"
            " AND r.watermark_of = :of AND r.watermark IS NOT NULL AND r.plan_is_whole"
            f" AND r.state IN ('succeeded', 'partial') AND NOT EXISTS ({_LEFT_OUT}) ORDER BY r.id DESC LIMIT 1"
        ),
        {"job": job, "set_id": set_id, "of": of},
    ).one_or_none()
    return Watermark(int(row[0]), row[1]) if row is not None else None


def forget(connection: Connection, set_id: int) -> None:
    """Let the next run of the set compare every key: rows became pending without a run that takes them.

    No run of it may be open, because a plan that looked before would leave another watermark.
    """
    connection.execute(
        text("UPDATE scorebeat.runs SET watermark = NULL WHERE prediction_set_id = :id AND watermark IS NOT NULL"),
        {"id": set_id},
    )


def highest_before(connection: Connection, job: str, set_id: int, of: str, time: datetime) -> int | None:
    """The largest value that a plan of the set had seen before `time`."""
    found = connection.execute(
        text(
            "SELECT cursor_highest FROM scorebeat.runs WHERE job = :job AND prediction_set_id = :set_id"
            " AND watermark_of = :of AND cursor_highest IS NOT NULL AND planned_at < :time ORDER BY id DESC LIMIT 1"
        ),
        {"job": job, "set_id": set_id, "of": of, "time": time},
    ).scalar_one_or_none()
    return int(found) if found is not None else None


def compared(connection: Connection, run_id: int) -> Compared | None:
    """What the plan of the run compared; None if it has no cursor, or is not whole."""
    of, value, missed = connection.execute(
        text("SELECT watermark_of, compared_from, rows_missed FROM scorebeat.runs WHERE id = :id"), {"id": run_id}
    ).one()
    if of is None:
        return None
    name, kind, _ = json.loads(of)
    return Compared(None if value is None else f"{name} {Cursor(name, kind).in_words(int(value))}", missed or 0)


def note(connection: Connection, run_id: int, planned: Planned) -> None:
    """Leave it with the run whose plan this transaction finishes."""
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET watermark_of = :of, watermark = :value, compared_from = :compared_from,"
            " swept_at = coalesce(:swept_at, planned_at), cursor_highest = :highest, rows_missed = :missed"
            " WHERE id = :run_id"
        ),
        {"run_id": run_id, **vars(planned)},
    )
