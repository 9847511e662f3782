"""Columns of rows in and out: a batch's pending rows as Arrow, its predictions by binary COPY."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from adbc_driver_manager._reader import AdbcRecordBatchReader
from adbc_driver_manager.dbapi import Connection as DataConnection

from scorebeat.core.errors import ClaimLost, InputError, OutputError
from scorebeat.db import locks, quarantine
from scorebeat.db.batches import Claim
from scorebeat.db.engine import forget
from scorebeat.db.failures import sqlstate
from scorebeat.db.prediction_sets import PredictionSet
from scorebeat.db.quarantine import BadRow
from scorebeat.db.source import Source
from scorebeat.db.sql import Key, KeyColumn
from scorebeat.db.tables import PREDICTIONS
from scorebeat.db.types import FLOATS

READ_CHUNK = 16 * 1024**2
"""Bytes of one record batch that the driver hands over; the bound on a fetch is checked between them."""


@dataclass(frozen=True)
class Fetched:
    """Rows of a batch in key order: `keys` and `rows` have the same length."""

    keys: pa.RecordBatch
    rows: pa.RecordBatch
    more: bool
    """The fetch stopped at its bound of rows or bytes: rows of the batch may be left."""


def fetch(connection: DataConnection, statement: str, source: Source, limit: int, max_bytes: int) -> Fetched:
    """Run a pending-rows statement in a READ ONLY transaction that is over when this returns."""
    with (
        _users_sql(connection),
        connection.cursor(adbc_stmt_kwargs={"adbc.postgresql.batch_size_hint_bytes": str(READ_CHUNK)}) as cursor,
    ):
        cursor.execute(statement)
        stream = cursor.fetch_arrow()
        # PyArrow's own reader would lose the SQLSTATE of an error that comes when rows have been sent already
        parts, cut = _read(AdbcRecordBatchReader._import_from_c(stream.address), max_bytes)
    table = pa.Table.from_batches(parts).combine_chunks()
    whole = table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)
    width = len(source.keys)
    names = whole.schema.names
    return Fetched(
        keys=whole.select(names[:width]),
        rows=_typed(whole.select(names[width:]), source),
        more=cut or whole.num_rows >= limit,
    )


@dataclass(frozen=True)
class Timing:
    """Where a batch's time went, in seconds."""

    fetch: float
    predict: float


def fetch_keys(connection: DataConnection, statement: str) -> list[Key]:
    """Run a statement of `PendingRows.keys`, READ ONLY as well."""
    with _users_sql(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        table = cursor.fetch_arrow_table()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@contextmanager
def _users_sql(connection: DataConnection) -> Iterator[None]:
    """A READ ONLY transaction of which nothing is left: predictions are written in the same session.

    It waits for no lock longer than a short time.
    """
    with connection.cursor() as cursor:
        cursor.execute(locks.READ_ONLY)
        cursor.fetchall()
    try:
        yield
    except Exception:
        with suppress(adbc_driver_manager.Error):  # it may be the connection that is broken
            forget(connection)
        raise
    forget(connection)


@dataclass(frozen=True)
class Part:
    """Rows of a batch whose fate is known: predictions to store, and rows to put aside."""

    predictions: pa.Table
    bad: tuple[BadRow, ...] = ()
    keys: tuple[KeyColumn, ...] = ()
    """By which a bad row is looked for among the predictions."""
    budget: int = 0
    """Attempts that the batch has again after this progress."""


def commit(connection: DataConnection, held: Claim, target: PredictionSet, part: Part, timing: Timing | None) -> float:
    """Fence, predictions, bad rows and the batch's state in one transaction; answers its seconds.

    With `timing` the batch is committed; None keeps it claimed, for a batch that is fetched in several
    parts. Raises ClaimLost when another attempt has the batch: nothing was written.
    """
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(_fence(held))
        if not cursor.fetchall():
            connection.rollback()
            raise ClaimLost(
                f"{held} no longer holds the claim; its {part.predictions.num_rows} predictions were discarded. "
                "Whoever has the batch now scores them; nothing is to be done."
            )
        if part.predictions.num_rows:
            cursor.adbc_ingest(target.table_name, part.predictions, mode="append", db_schema_name=PREDICTIONS)
            # preparing anything lets the driver see that the transaction is still open; without it, it begins
            # another, and the server warns at every batch
            cursor.adbc_execute_schema("SELECT 1")
        if part.bad:
            quarantine.put_aside(cursor, target, part.keys, held.batch_id, part.bad)
        cursor.execute(_done(held, part, timing, time.perf_counter() - began))
    connection.commit()
    return time.perf_counter() - began


def to_ingest(
    connection: DataConnection,
    target: PredictionSet,
    keys: pa.RecordBatch,
    scored: pa.RecordBatch,
    batch_id: int,
) -> pa.Table:
    """Keys, outputs and the batch's id as one table, in the exact Arrow types of the prediction table.

    The driver compares no types: an int64 in a float8 column would be stored as garbage, silently. Raises
    OutputError.
    """
    stamp = pa.repeat(pa.scalar(batch_id, pa.int64()), scored.num_rows)
    table = pa.table(
        [*keys.columns, *scored.columns, stamp], names=[*keys.schema.names, *scored.schema.names, "batch_id"]
    )
    wanted = table_schema(connection, target)
    wrong = [
        f"{name} is {table.schema.field(name).type if name in table.schema.names else 'missing'}, "
        f"the table has {wanted.field(name).type}"
        for name in wanted.names
        if name not in table.schema.names or table.schema.field(name).type != wanted.field(name).type
    ]
    extra = [f"{name} is no column of the table" for name in table.schema.names if name not in wanted.names]
    if wrong or extra:
        raise OutputError(f"predictions do not fit {target.table}: {'; '.join(wrong + extra)}. Nothing was written.")
    return table


def table_schema(connection: DataConnection, target: PredictionSet) -> pa.Schema:
    """The prediction table's Arrow types, without `scored_at`, which takes its default."""
    with connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema(f"SELECT * FROM {target.table}")
    connection.commit()
    return pa.schema([pa.field(f.name, f.type) for f in schema if f.name != "scored_at"])


def _fence(held: Claim) -> str:
    """Locks the batch if this attempt still holds it. Numbers only, so it needs no parameters."""
    return (
        f"SELECT id FROM scorebeat.batches WHERE id = {held.batch_id:d} AND attempt = {held.attempt:d}"
        " AND state = 'claimed' FOR UPDATE"
    )


def _done(held: Claim, part: Part, timing: Timing | None, seconds: float) -> str:
    """Progress gives the budget back, and a probe that came this far has survived.

    Bad rows are counted where they stand: another batch may have stored some of them first. Fewer than before they are
    only when some were pruned.
    """
    scored = part.predictions.num_rows
    ends = ", probe_key = NULL"
    if part.bad:
        aside = f"SELECT count(*) FROM scorebeat.quarantine WHERE batch_id = {held.batch_id:d}"
        ends += f", rows_failed = greatest(rows_failed, ({aside}))"
    if scored or part.bad:
        ends += f", attempts_left = greatest(attempts_left, {part.budget:d})"
    if timing is not None:
        ends += (
            ", state = 'committed', claim_expires_at = NULL, finished_at = clock_timestamp(), error = NULL,"
            f" fetch_seconds = {timing.fetch:.6f}, predict_seconds = {timing.predict:.6f},"
            f" commit_seconds = {seconds:.6f}"
        )
    return f"UPDATE scorebeat.batches SET rows_scored = rows_scored + {scored:d}{ends} WHERE id = {held.batch_id:d}"


def _read(reader: pa.RecordBatchReader, max_bytes: int) -> tuple[list[pa.RecordBatch], bool]:
    parts: list[pa.RecordBatch] = []
    size = 0
    with closing(reader):
        for part in reader:
            parts.append(part)
            size += part.nbytes
            if size >= max_bytes:
                return parts, True
    if not parts:
        parts.append(pa.RecordBatch.from_pylist([], schema=reader.schema))
    return parts, False


def _typed(rows: pa.RecordBatch, source: Source) -> pa.RecordBatch:
    """Input columns in the types that `Source.columns` promises; JSON texts become lists."""
    columns = [
        _json_lists(rows.column(name), name) if name in source.json else _plain(rows.column(name))
        for name in rows.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _json_lists(column: pa.Array, name: str) -> pa.Array:
    """Texts of JSON arrays of numbers as a list column, by Arrow's own JSON reader."""
    if len(column) == 0:
        return pa.array([], FLOATS)
    # a newline would end a record; in JSON outside of strings it is only white space
    flat = pc.replace_substring(pc.coalesce(column, pa.scalar("null")), "\n", " ")
    lines = pc.binary_join_element_wise('{"v":', flat, "}\n", "")
    text = pa.concat_arrays([lines]).buffers()[2]
    schema = pa.schema([("v", FLOATS)])
    try:
        parsed = pa.json.read_json(
            pa.BufferReader(text.slice(0, pc.sum(pc.binary_length(lines)).as_py())),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} holds JSON that is not an array of numbers ({error}); select such rows away, "
            "or turn them into an array in the query"
        ) from None
    return parsed.column("v").combine_chunks()


DRIVER_ERRORS = (adbc_driver_manager.Error,)


def detail(error: BaseException) -> str:
    """PostgreSQL's DETAIL line, such as `Key (id)=(7) already exists.`, or its whole message in one line."""
    lines = str(error).splitlines()
    named = [line.partition("DETAIL:")[2].strip() for line in lines if "DETAIL:" in line]
    return named[0] if named else " ".join(lines)


def is_repeated_key(error: BaseException) -> bool:
    return isinstance(error, adbc_driver_manager.Error) and sqlstate(error) == "23505"
