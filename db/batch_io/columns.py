"""Columns of rows in and out: a batch's pending rows as Arrow, its predictions by binary COPY."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from adbc_driver_manager._reader import AdbcRecordBatchReader

from scorebeat.core.errors import ClaimLost, InputError, OutputError, ScorebeatError
from scorebeat.core.table_names import CHANGED_AT, PREDICTIONS
from scorebeat.db.closing import run_ends
from scorebeat.db.connect import locks
from scorebeat.db.connect.database_errors import sqlstate
from scorebeat.db.connect.engine import autocommit, begin, data_connection, forget, run
from scorebeat.db.connect.sql import KeyColumn, ident, literal
from scorebeat.db.ledger.batches import IS_CLAIMED, Claim
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow, RowId
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.predictions.table_types import TableTypes, require_as_made, stamp_sql
from scorebeat.db.records import usage
from scorebeat.db.source.changes import SEEN
from scorebeat.db.source.fetched_values import (
    SENT,
    TEXT,
    Unfit,
    driver_type,
    find_out_of_range,
    key_columns_of,
    no_rows,
    since_2000,
    typed,
    without_changes,
)
from scorebeat.db.source.source import Source
from scorebeat.db.source.values.types import THROUGH_TEXT

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection as DataConnection
    from adbc_driver_manager.dbapi import Cursor

READ_CHUNK = 16 * 1024**2
"""Bytes of one record batch that the driver hands over; the bound on a fetch is checked between them."""
AT_ONCE = 4 * 1024**2
"""A fetch that surely takes at most so many bytes is one message with one result. For larger ones COPY takes less time
and memory: rows are read while the next ones arrive."""


@dataclass(frozen=True)
class Fetched:
    """Rows of a batch in key order: `keys` and `rows` have the same length."""

    keys: pa.RecordBatch
    """As `fetched_values.key_columns_of` returns them."""
    rows: pa.RecordBatch
    more: bool
    """The fetch stopped at its limit of rows or bytes: rows of the batch may be left."""
    unfit: tuple[Unfit, ...] = ()
    """Values of the query that have no equal in Arrow; `rows` has others for them."""


def fetch(connection: "DataConnection", statement: str, source: Source, limit: int, max_bytes: int) -> Fetched:
    """Run a pending-rows statement in the transaction of `begin_query`, which is over when this returns.

    Raises LongText if texts of a bounded source may have been cut.
    """
    options = {"adbc.postgresql.batch_size_hint_bytes": str(READ_CHUNK)}
    if source.cut_at is not None:
        options = {"adbc.postgresql.use_copy": "false"}  # one round trip where COPY takes three
    with _users_sql(connection), connection.cursor(adbc_stmt_kwargs=options) as cursor:
        try:
            cursor.execute(statement)
        except adbc_driver_manager.Error as error:
            # the statement may be long; only PostgreSQL's words stay
            error.args = (str(error).replace(f" '{statement}'", ""), *error.args[1:])
            raise
        stream = cursor.fetch_arrow()
        # PyArrow's own reader would lose the SQLSTATE of an error that comes when rows have been sent already
        try:
            parts, cut = _read(AdbcRecordBatchReader._import_from_c(stream.address), max_bytes)
        except adbc_driver_manager.Error as error:
            if "lower bound" not in str(error):
                raise
            raise InputError(
                "the row has an array whose first index is neither 0 nor 1, which the driver does not read; write x[:] "
                "AS x for the column x in the query"
            ) from None
    table = pa.Table.from_batches(parts).combine_chunks()
    whole = table.to_batches()[0] if table.num_rows else no_rows(table.schema)
    if source.cut_at is not None:
        _require_whole(whole, source.texts, source.cut_at)
    keys, taken = key_columns_of(whole, source)
    rows, unfit = typed(whole, taken, source)
    return Fetched(keys, rows, cut or whole.num_rows >= limit, unfit)


def fetch_once(url: str, name: str, statement: str, source: Source, limit: int, max_bytes: int) -> Fetched:
    """`fetch` over a connection of its own, called `name`, for what is read beside batches."""
    with closing(data_connection(url, name)) as connection:
        begin_query(connection)
        return fetch(connection, statement, source, limit, max_bytes)


class LongText(ScorebeatError):
    """A text may have been cut: the rows must be fetched by COPY, from the source without a bound."""


def _require_whole(rows: pa.RecordBatch, texts: frozenset[str], cut_at: int) -> None:
    """Raises LongText if a text may have been cut, because it has the most characters that it could have."""
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if field.name in texts and pa.types.is_string(field.type):
            longest = pc.max(pc.utf8_length(column)).as_py()
            if longest is not None and longest >= cut_at:
                raise LongText(f"column {field.name!r} has a text of {cut_at} characters or more")


def _read(reader: pa.RecordBatchReader, max_bytes: int) -> tuple[list[pa.RecordBatch], bool]:
    """Parts of the result, and whether rows may be left because these have so many bytes."""
    parts: list[pa.RecordBatch] = []
    size = 0
    with closing(reader):
        for part in reader:
            parts.append(part)
            size += part.nbytes
            if size >= max_bytes:
                return parts, True
    if not parts:
        parts.append(no_rows(reader.schema))
    return parts, False


@dataclass(frozen=True)
class Timing:
    """What is stored with a batch when it is committed: where its time went, in seconds, and its profile."""

    fetch: float
    predict: float
    cpu_before: float = 0.0
    """What `time.process_time` returned when the attempt began."""
    profile: bytes | None = None
    """The profile of a sample of its rows, which is stored with it; None: it has none."""


def fetch_row_ids(connection: "DataConnection", statement: str) -> list[RowId]:
    """Run a statement of `PendingRows.rows`, as `fetch` does."""
    with _users_sql(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        table = cursor.fetch_arrow_table()
    found = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [RowId(tuple(key), changed_at, seen) for *key, changed_at, seen in found]


def begin_query(connection: "DataConnection") -> bool:
    """Begin a READ ONLY transaction for the user's SQL, which waits for no lock longer than a short time.

    False if the session takes no writes at all, so that predictions could not be written in it either. Raises the
    driver's error: then no transaction is open, and the next statement would run in one that may write.
    """
    return begin(connection, locks.READ_ONLY) == 1


@contextmanager
def _users_sql(connection: "DataConnection") -> Iterator[None]:
    """Undo the transaction after the block: predictions are written in the same session."""
    try:
        yield
    except Exception:
        with suppress(adbc_driver_manager.Error):  # it may be the connection that is broken
            connection.rollback()  # over a failed transaction the driver sends nothing else
            forget(connection)
        raise
    forget(connection)


@dataclass(frozen=True)
class Part:
    """Rows of a batch whose fate is known: predictions to store, and rows to quarantine."""

    predictions: pa.Table
    bad: tuple[BadRow, ...] = ()
    keys: tuple[KeyColumn, ...] = ()
    """Key columns by which a bad row is looked up among the predictions, if their table has its key."""
    budget: int = 0
    """Attempts that the batch has left at least after this progress."""
    types: TableTypes | None = None
    """Types of the table for which `predictions` were made."""
    seen: tuple[str, ...] = ()
    """What the predictions replace, each as `RowId.seen`."""


class TypesChanged(ScorebeatError):
    """The prediction table is not as it was when it was read."""


def commit(connection: "DataConnection", held: Claim, target: PredictionSet, part: Part, timing: Timing | None) -> bool:
    """Fence, predictions, bad rows and the batch's state in one transaction.

    With `timing` the batch is committed, and True is returned if no batch of its run is open any more; None keeps it
    claimed, for a batch that is fetched in several parts. Raises ClaimLost if another attempt has the batch, or
    TypesChanged; nothing was written then.
    """
    began = time.perf_counter()
    with autocommit(connection), connection.cursor() as cursor:
        is_as_read = f" AND {stamp_sql(target)} = {literal(part.types.stamp)}" if part.types is not None else ""
        if run(cursor, f"BEGIN; {_fence(held, is_as_read)}") != 1:
            is_held = run(cursor, _fence(held)) == 1
            run(cursor, "ROLLBACK")
            if is_held:
                raise TypesChanged(f"{target.table} is not as it was when it was read")
            raise ClaimLost(
                f"{held} no longer holds the claim; its {part.predictions.num_rows} predictions were discarded. "
                "The worker that has the batch now scores them; there is nothing to do."
            )
        replaced = [*part.seen, *(row.row.seen for row in part.bad if row.row.seen is not None)]
        if replaced:
            seen = literal(f"[{','.join(replaced)}]")
            run(cursor, f"SELECT scorebeat.replace_rows({target.id:d}, {seen})")
        if part.predictions.num_rows:
            _ingest(cursor, target, part)
        if part.bad:
            # no other batch has rows of this one while nothing was looked up, so none of them is scored already
            keys = () if part.types is not None and part.types.lacks_key else part.keys
            quarantine.add(cursor, target, keys, held.batch_id, part.bad)
        done = f"{_done(held, part, timing, time.perf_counter() - began)}; COMMIT"
        if timing is None:
            run(cursor, done)
            return False
        # checked after the commit: of two last batches that end at once, at least one sees the other
        return run(cursor, f"{done}; SELECT WHERE {run_ends.is_settled_sql(f'{held.run_id:d}')}") == 1


_STAGED = "scorebeat_staged"


def _ingest(cursor: "Cursor", target: PredictionSet, part: Part) -> None:
    """Write by binary COPY; through a temporary table if the driver cannot write a key's type."""
    staged = {key.name: f"::{key.type}" for key in part.keys if key.type in THROUGH_TEXT}
    if not staged:
        cursor.adbc_ingest(target.table_name, part.predictions, mode="append", db_schema_name=PREDICTIONS)
        return
    names = part.predictions.schema.names
    as_text = ", ".join(f"{ident(n)}{'::text' if n in staged else ''} AS {ident(n)}" for n in names)
    cursor.execute(f"CREATE TEMPORARY TABLE {_STAGED} AS SELECT {as_text} FROM {target.table} WITH NO DATA")
    cursor.adbc_ingest(_STAGED, part.predictions, mode="append", temporary=True)
    cursor.execute(
        f"INSERT INTO {target.table} ({', '.join(map(ident, names))})"
        f" SELECT {', '.join(ident(n) + staged.get(n, '') for n in names)} FROM pg_temp.{_STAGED}"
    )
    cursor.execute(f"DROP TABLE pg_temp.{_STAGED}")


def to_ingest(
    types: TableTypes,
    target: PredictionSet,
    keys: pa.RecordBatch,
    scored: pa.RecordBatch,
    batch_id: int,
    key_columns: Sequence[KeyColumn] = (),
) -> pa.Table:
    """Keys, outputs and the batch's id as one table, in the exact types of the prediction table.

    Keys may come with their `CHANGED_AT`. A table keeps that column when its job has no `changed_at` any more: then it
    stays NULL. The driver compares no types: it would silently store an int64 in a float8 column as garbage. Raises
    OutputError.
    """
    require_as_made(types, target, without_changes(keys).schema.names)
    keys = keys.select([name for name in keys.schema.names if name != SEEN])
    wanted = pa.schema([f for f in types.schema if f.name != CHANGED_AT or CHANGED_AT in keys.schema.names])
    named = {key.name: key for key in key_columns}
    stored = [_stored(c, named.get(n), wanted) for n, c in zip(keys.schema.names, keys.columns, strict=True)]
    stamp = pa.repeat(pa.scalar(batch_id, pa.int64()), scored.num_rows)
    table = pa.table([*stored, *scored.columns, stamp], names=[*keys.schema.names, *scored.schema.names, "batch_id"])
    wrong = [
        f"{name} is {table.schema.field(name).type if name in table.schema.names else 'missing'}, "
        f"the table has {wanted.field(name).type}"
        for name in wanted.names
        if name not in table.schema.names
        or not _fits(table.schema.field(name).type, wanted.field(name), named.get(name))
    ]
    extra = [f"{name} is no column of the table" for name in table.schema.names if name not in wanted.names]
    if wrong or extra:
        raise OutputError(f"predictions do not fit {target.table}: {'; '.join(wrong + extra)}. Nothing was written.")
    for position, name in enumerate(keys.schema.names):
        is_timestamp = pa.types.is_timestamp(table.schema.field(position).type)
        if is_timestamp and table.num_rows and any(find_out_of_range(name, table.column(position).chunk(0))):
            table = table.set_column(position, name, since_2000(table.column(position)))
    return table


def _stored(column: pa.Array, key: KeyColumn | None, wanted: pa.Schema) -> pa.Array:
    """A key column as the table takes it: the bytes that PostgreSQL sent, their text, or the column as it was read."""
    if key is not None and key.send:
        return pc.struct_field(column, TEXT if key.type in THROUGH_TEXT else SENT)
    field = wanted.field(key.name) if key is not None and key.name in wanted.names else None
    is_wider = field is not None and pa.types.is_integer(field.type) and pa.types.is_integer(column.type)
    return column.cast(field.type) if field is not None and is_wider else column


def _fits(found: pa.DataType, wanted: pa.Field, key: KeyColumn | None) -> bool:
    if key is not None and key.send:
        return driver_type(wanted) in key.read_as
    return bool(found == wanted.type)


def _fence(held: Claim, more: str = "") -> str:
    """A statement that locks the batch if this attempt still holds it. It has only numbers, and needs no parameters."""
    return (
        f"SELECT id FROM scorebeat.batches WHERE id = {held.batch_id:d} AND attempt = {held.attempt:d}"
        f" AND {IS_CLAIMED}{more} FOR UPDATE"
    )


def _done(held: Claim, part: Part, timing: Timing | None, seconds: float) -> str:
    """A statement that stores the progress: it restores the budget, and clears the probe, which has survived.

    Bad rows are counted in the quarantine: another batch may have stored some of them first. The count falls only if
    some were pruned.
    """
    scored = part.predictions.num_rows
    changes = ", probe_key = NULL"
    if part.bad:
        quarantined = f"SELECT count(*) FROM scorebeat.quarantine WHERE batch_id = {held.batch_id:d}"
        changes += f", rows_failed = greatest(rows_failed, ({quarantined}))"
    if scored or part.bad:
        changes += f", attempts_left = greatest(attempts_left, {part.budget:d})"
    if timing is not None:
        changes += (
            ", state = 'committed', claim_expires_at = NULL, finished_at = clock_timestamp(), error = NULL,"
            f" fetch_seconds = {timing.fetch:.6f}, predict_seconds = {timing.predict:.6f},"
            f" commit_seconds = {seconds:.6f},"
            f" device_seconds = coalesce(device_seconds, 0) + {usage.device_seconds()},"
            f" cpu_seconds = coalesce(cpu_seconds, 0) + {time.process_time() - timing.cpu_before:.6f}"
        )
    stored = "" if timing is None or timing.profile is None else f"; {profiles.store_sql(held, timing.profile)}"
    added = f"rows_scored = rows_scored + {scored:d}{changes}"
    return f"UPDATE scorebeat.batches SET {added} WHERE id = {held.batch_id:d}{stored}"


DRIVER_ERRORS = (adbc_driver_manager.Error,)


def detail(error: BaseException) -> str:
    """PostgreSQL's DETAIL line, such as `Key (id)=(7) already exists.`, or its whole message in one line."""
    lines = str(error).splitlines()
    named = [line.partition("DETAIL:")[2].strip() for line in lines if "DETAIL:" in line]
    return named[0] if named else " ".join(lines)


def repeated(keys: pa.RecordBatch) -> str | None:
    """The first key that two rows in key order share, as `detail` names it; None if none does."""
    columns = [column.field(TEXT) if pa.types.is_struct(column.type) else column for column in keys.columns]
    if keys.num_rows < 2 or not columns:
        return None
    same = [pc.fill_null(pc.equal(column.slice(1), column.slice(0, keys.num_rows - 1)), False) for column in columns]
    at = pc.index(reduce(pc.and_, same), True).as_py()
    names = ", ".join(keys.schema.names)
    return f"Key ({names})=({', '.join(quarantine.keys_of(keys, at))}) repeats" if at >= 0 else None


def is_repeated_key(error: BaseException) -> bool:
    return isinstance(error, adbc_driver_manager.Error) and sqlstate(error) == "23505"
