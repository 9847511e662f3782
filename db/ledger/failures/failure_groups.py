"""Failures grouped by error: the groups of a run, their counts, and the rows of the ledger that are in them."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

DEAD = "dead batches"
QUARANTINED = "quarantined rows"
PLACE = "[0-9]{1,18}-[br][0-9]{1,18}"
"""Pattern of a position as text."""
GROUP = "[0-9a-f]{32}"
"""Pattern of a group's id."""
_LETTERS = {DEAD: "b", QUARANTINED: "r"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_BEYOND = " WHERE (-count, kind, example_id) > (-CAST(:count AS bigint), :kind, :example_id)"


@dataclass(frozen=True)
class Place:
    """The position of a group among those of its run: the most frequent first, then by kind and example."""

    count: int
    kind: str
    example_id: int

    def __str__(self) -> str:
        return f"{self.count}-{_LETTERS[self.kind]}{self.example_id}"

    @classmethod
    def of(cls, written: str) -> "Place | None":
        """The position of a text such as `12-r9001`; None for anything else."""
        if not re.fullmatch(PLACE, written):
            return None
        count, _, example = written.partition("-")
        return cls(int(count), _KINDS[example[0]], int(example[1:]))


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one kind in a run whose errors have the same first 100 characters."""

    id: str
    """Derived from the kind and those characters; a requeue takes it."""
    kind: str
    """`dead batches` or `quarantined rows`."""
    error: str
    """The whole error of the example."""
    count: int
    rows: int
    match: str
    """The beginning of the error. Errors of other groups may contain it too."""
    example: str
    """`batch 17`, or `key` and the key."""
    example_id: int
    traceback: str | None
    first_at: datetime | None
    last_at: datetime | None

    @property
    def place(self) -> Place:
        return Place(self.count, self.kind, self.example_id)


def beginning(error: str) -> str:
    """SQL: what the errors of a group share; `error` is the column in the statement."""
    return f"left({error}, 100)"


def of_dead(batch: str) -> str:
    """SQL: the id of a dead batch's group; `batch` is the table's name in the statement."""
    return f"md5(jsonb_build_array('{DEAD}', {beginning(f'{batch}.error')})::text)"


def of_quarantined(row: str) -> str:
    """SQL: the id of a quarantined row's group; `row` is the table's name in the statement."""
    return f"md5(jsonb_build_array('{QUARANTINED}', {row}.error_type, {beginning(f'{row}.error')})::text)"


_GROUPS = (
    "WITH mine AS MATERIALIZED (SELECT id FROM scorebeat.batches WHERE run_id = :run_id),"
    f" groups AS (SELECT '{DEAD}' AS kind, min(b.id) AS example_id, count(*) AS count,"
    f" sum(b.rows_planned) AS rows, {beginning('b.error')} AS match, min(b.finished_at) AS first_at,"
    " max(b.finished_at) AS last_at FROM scorebeat.batches b WHERE b.state = 'dead' AND b.run_id = :run_id"
    f" GROUP BY {beginning('b.error')}"
    f" UNION ALL SELECT '{QUARANTINED}', min(z.id), count(*), count(*),"
    f" z.error_type || ': ' || {beginning('z.error')}, min(z.quarantined_at), max(z.quarantined_at)"
    # the range is for the index: the rows of all other runs are not read
    " FROM scorebeat.quarantine z JOIN mine ON mine.id = z.batch_id"
    " WHERE z.batch_id BETWEEN (SELECT min(id) FROM mine) AND (SELECT max(id) FROM mine)"
    f" GROUP BY z.error_type, {beginning('z.error')})"
)
"""A common table expression of all groups of a run."""
_EXAMPLES = (
    f" LEFT JOIN scorebeat.batches d ON g.kind = '{DEAD}' AND d.id = g.example_id"
    f" LEFT JOIN scorebeat.quarantine z ON g.kind = '{QUARANTINED}' AND z.id = g.example_id"
)
"""Joins the example of each group `g`: a dead batch `d` or a row `z` in quarantine."""
_ID = f"CASE WHEN g.kind = '{DEAD}' THEN {of_dead('d')} ELSE {of_quarantined('z')} END"
"""A group's id, from its example: digests of many thousand groups would take longer than the rest of the statement."""


def page(connection: Connection, run_id: int, *, limit: int = 20, after: Place | None = None) -> list[FailureGroup]:
    """The run's failures grouped by error, each with an example; the most frequent first, from beyond `after`."""
    found = connection.execute(
        text(
            f"{_GROUPS}, page AS (SELECT * FROM groups{_BEYOND if after else ''}"
            " ORDER BY -count, kind, example_id LIMIT :limit)"
            f" SELECT {_ID} AS id, g.kind, coalesce(d.error, z.error_type || ': ' || z.error) AS error, g.count,"
            " g.rows, g.match, coalesce('batch ' || d.id, 'key ' || (SELECT string_agg(part, ', ')"
            " FROM jsonb_array_elements_text(z.key) AS part)) AS example, g.example_id, z.traceback, g.first_at,"
            f" g.last_at FROM page g{_EXAMPLES}"
            " ORDER BY -g.count, g.kind, g.example_id"
        ),
        {"run_id": run_id, "limit": limit, **(vars(after) if after else {})},
    )
    return [FailureGroup(**{**row._mapping, "rows": int(row.rows)}) for row in found]


def words(connection: Connection, run_id: int, group: str) -> str | None:
    """Kind and error of a group; None if no failure of the run is in it, or none any more."""
    found = connection.execute(
        text(f"{_GROUPS} SELECT g.kind || ': ' || g.match FROM groups g{_EXAMPLES} WHERE {_ID} = :group"),
        {"run_id": run_id, "group": group},
    )
    return found.scalar_one_or_none()
