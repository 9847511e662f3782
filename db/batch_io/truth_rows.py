"""Stored predictions beside what really happened: counted by week in PostgreSQL, and a sample of each week as Arrow."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager._reader import AdbcRecordBatchReader
from sqlalchemy import Connection

from scorebeat.db.batch_io.columns import READ_CHUNK, begin_query
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import as_text, ident, literal, same_key, subquery
from scorebeat.db.predictions import views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source.truth import KNOWN_AT, LABEL, Truth

MOST_ROWS = 100_000
"""Rows of a version and week that are compared; of more, so many are chosen at random, by a hash of the key: the same
ones each time, and of each version."""
MOST_VALUES = 5_000_000
"""Fewer rows of a model with so many outputs that this number of values would be passed."""
LONGEST_TEXT = 256
"""Characters of a label that are compared."""
_HASHES = 2**30


@dataclass(frozen=True)
class Week:
    """What one version has in a week."""

    rows: int = 0
    """Predictions whose truth became known in the week."""
    null_labels: int = 0
    """Rows of the truth without a label; they are not among `rows`."""
    scored_after: int = 0
    """Rows that were scored after the truth was known."""
    predictions: int = 0
    """Predictions that were made in the week."""
    with_truth: int = 0
    """Of these, those whose truth is known by now."""


@dataclass(frozen=True)
class Joined:
    """One version's predictions joined with the truth; weeks begin on Mondays in `zone`."""

    truth: Truth
    predictions: PredictionSet
    zone: str
    columns: Sequence[str]
    """SQL of the truth, of the output that it is compared with, and of probabilities, over q and p."""

    def weeks(self, connection: Connection) -> dict[date, Week]:
        """The counts of each week with a prediction or a label, by its Monday."""
        rows = (
            f"SELECT {self._week} AS known, {self._week_of('p.scored_at', is_instant=True)} AS made,"
            f" {_HAS_LABEL} AS has_label, {self._after} AS after FROM {self._from('LEFT JOIN')}"
        )
        found = user_sql.rows(
            connection,
            "SELECT grouping(known), coalesce(known, made), count(*), count(*) FILTER (WHERE has_label),"
            f" count(*) FILTER (WHERE has_label AND after) FROM ({rows}) AS joined"
            " GROUP BY GROUPING SETS ((known), (made))",
        )
        weeks: dict[date, Week] = {}
        for is_by_made, monday, count, labels, after in found:
            if monday is None:  # predictions without a truth
                continue
            was = weeks.get(monday, Week())
            if is_by_made:
                weeks[monday] = Week(was.rows, was.null_labels, was.scored_after, count, labels)
            else:
                weeks[monday] = Week(labels, count - labels, after, was.predictions, was.with_truth)
        return weeks

    def samples(self, url: str, rows: Mapping[date, int]) -> Iterator[tuple[date, pa.Table]]:
        """For each of these weeks, with its number of rows, a sample of them; a week without any is missing.

        One week is in memory at a time. Columns are `truth`, `output`, `p0`, `p1` ...
        """
        names = ["truth", "output", *(f"p{at}" for at in range(len(self.columns) - 2))]
        chosen = ", ".join(f"{sql} AS {name}" for sql, name in zip(self.columns, names, strict=True))
        most = min(MOST_ROWS, MOST_VALUES // len(names))
        # a hash chooses about as many rows as it should: some more are read, and those beyond the number left out
        some = most + 5 * math.isqrt(most)
        few = {monday: _HASHES * some // count for monday, count in rows.items() if count > some}
        limits = "".join(f" WHEN '{monday:%Y-%m-%d}' THEN {limit}" for monday, limit in few.items())
        limit = f" AND (hash & {_HASHES - 1}) < CASE known::text{limits} ELSE {_HASHES} END" if few else ""
        mondays = ", ".join(f"'{monday:%Y-%m-%d}'" for monday in rows)
        statement = (
            f"SELECT known, {', '.join(names)} FROM (SELECT to_char({self._week}, 'YYYY-MM-DD') AS known,"
            f" {self._hash} AS hash, {chosen} FROM {self._from('JOIN')} WHERE {_HAS_LABEL}) AS joined"
            f" WHERE known IN ({mondays}){limit} ORDER BY known, hash"
        )
        for monday, parts in itertools.groupby(_read(url, statement), key=lambda part: part[0]):
            table = pa.Table.from_batches([part for _, part in _up_to(most, (part for _, part in parts))])
            yield date.fromisoformat(monday), table

    def _from(self, join: str) -> str:
        on = same_key(self.truth.source.keys, "p", "q")
        return f"(SELECT * {views.rows(self.predictions)}) AS p {join} {subquery(self.truth.source.query)} ON {on}"

    @property
    def _week(self) -> str:
        """SQL: the Monday of the week in which the label became known; NULL for a row without a truth."""
        first = ident(self.truth.source.keys[0].name)
        made = self._week_of("p.scored_at", is_instant=True)
        if self.truth.known_at is None:
            return f"CASE WHEN q.{first} IS NOT NULL THEN {made} END"
        known = self._week_of(_KNOWN, is_instant=self._is_instant)
        return (
            f"CASE WHEN q.{first} IS NULL THEN NULL WHEN {_IS_A_DATE} THEN {known}"
            f" WHEN {_KNOWN} > {_LAST} THEN date_trunc('week', DATE {_LAST})::date ELSE {made} END"
        )

    @property
    def _after(self) -> str:
        """SQL: whether the prediction was made after the label was known."""
        if self.truth.known_at is None:
            return "false"
        made = "p.scored_at" if self._is_instant else f"(p.scored_at AT TIME ZONE {literal(self.zone)})"
        return f"{made}{'::date' * pa.types.is_date(self.truth.known_at)} > {_KNOWN}"

    @property
    def _is_instant(self) -> bool:
        kind = self.truth.known_at
        return kind is not None and pa.types.is_timestamp(kind) and kind.tz is not None

    def _week_of(self, time: str, *, is_instant: bool) -> str:
        local = f"{time} AT TIME ZONE {literal(self.zone)}" if is_instant else f"{time}::timestamp"
        return f"date_trunc('week', {local})::date"

    @property
    def _hash(self) -> str:
        keys = ", ".join(as_text(f"p.{ident(key.name)}", key.type) for key in self.truth.source.keys)
        return f'hashtextextended(concat_ws(chr(31), {keys}) COLLATE "C", 0)'


_HAS_LABEL = f"q.{ident(LABEL)} IS NOT NULL"
_KNOWN = f"q.{ident(KNOWN_AT)}"
_LAST = "'9999-12-15'"
"""Whatever is later, such as 9999-12-31 or infinity, is in the week of this day: a week to come, as any other."""
_IS_A_DATE = f"{_KNOWN} BETWEEN '0001-01-15' AND {_LAST}"
"""Neither NULL, nor infinite, nor a year that Python does not have."""


def _read(url: str, statement: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows by week, in their order, in parts of a bounded size; they are read while the caller takes them."""
    options = {"adbc.postgresql.batch_size_hint_bytes": str(READ_CHUNK)}
    with data_connection(url, "scorebeat quality") as opened:
        begin_query(opened)
        with opened.cursor(adbc_stmt_kwargs=options) as cursor:
            cursor.execute(statement)
            stream = cursor.fetch_arrow()
            # PyArrow's own reader would lose the SQLSTATE of an error that comes when rows have been sent already
            with closing(AdbcRecordBatchReader._import_from_c(stream.address)) as reader:
                for part in reader:
                    yield from _by_week(part)
        opened.rollback()


def _by_week(part: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    weeks = part.column(0)
    begin = 0
    while begin < part.num_rows:
        same = pc.equal(weeks.slice(begin), weeks[begin])
        end = pc.index(same, False).as_py()
        length = part.num_rows - begin if end < 0 else end
        yield str(weeks[begin]), part.slice(begin, length).drop_columns([part.schema.names[0]])
        begin += length


def _up_to(most: int, parts: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The first so many rows; the rest is read and dropped."""
    taken = 0
    for part in parts:
        if taken < most:
            kept = part.slice(0, most - taken)
            taken += kept.num_rows
            yield taken, kept


def column(alias: str, name: str, kind: pa.DataType, compared_as: str) -> str:
    """SQL of a label or an output as it is compared: a `text`, a `whole` number or a `float`."""
    value = f"{alias}.{ident(name)}"
    if compared_as == "text":
        return f"left({value}::text, {LONGEST_TEXT})"
    number = f"{value}::int" if pa.types.is_boolean(kind) else value
    return f"{number}::{'int8' if compared_as == 'whole' else 'float8'}"
