"""Every output type is stored and comes back as it was; every other is refused before anything is written."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from adbc_driver_manager.dbapi import Connection as DataConnection
from sqlalchemy import Engine

from scorebeat.core.errors import OutputError
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.predictions import prediction_sets, table_types
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source import source
from scorebeat.db.source.values import types
from scorebeat.models.arrow_types import TYPES
from tests.support.ledger_fixtures import shared_engine
from tests.support.ledger_rows import a_job, add_batch, add_run

__all__ = ["shared_engine"]

SPAN = KeyRange(("1",), ("9999",))
NOON = datetime(2024, 3, 31, 12, 0, 0, 123456)


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    return shared_engine


@pytest.fixture
def data(engine: Engine) -> Iterator[DataConnection]:
    with data_connection(engine.url.render_as_string(hide_password=False)) as opened:
        yield opened


SAMPLES: dict[pa.DataType, list[Any]] = {
    pa.int16(): [-32768, 32767],
    pa.int32(): [-(2**31), 7],
    pa.int64(): [-(2**63), 7],
    pa.float32(): [0.5, math.inf],
    pa.float64(): [0.1, -1e300],
    pa.bool_(): [True, False],
    pa.string(): ["", "ä\n'😀"],
    pa.date32(): [date(1969, 12, 31), date(2024, 2, 29)],
    pa.timestamp("us"): [NOON, datetime(1900, 1, 1)],
    pa.timestamp("us", tz="UTC"): [NOON.replace(tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC)],
    pa.list_(pa.float32()): [[0.5, -1.5], []],
    pa.list_(pa.float64()): [[0.1, 1e300], []],
}
STRANGERS = [
    pa.int8(), pa.uint32(), pa.float16(), pa.large_string(), pa.binary(), pa.date64(), pa.timestamp("ns"),
    pa.timestamp("us", tz="Europe/Berlin"), pa.list_(pa.float64(), 2), pa.large_list(pa.float64()),
    pa.dictionary(pa.int32(), pa.string()), pa.decimal128(10, 2), pa.null(), pa.list_(pa.int64()),
]  # fmt: skip


@dataclass
class Target:
    """A prediction table with one output `y`, and a batch that is claimed for it."""

    engine: Engine
    set: PredictionSet
    held: Claim

    def kept(self) -> list[Any]:
        with self.engine.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql(f"SELECT y FROM {self.set.table} ORDER BY id")]


def target(engine: Engine, output: pa.DataType) -> Target:
    url = engine.url.render_as_string(hide_password=False)
    query = "SELECT n AS id, 1.0::float8 AS a FROM generate_series(1, 2) AS n"
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE scorebeat.runs, scorebeat.batches, scorebeat.quarantine CASCADE")
        run_id = add_run(connection)
        batch_id = add_batch(connection, run_id, "claimed")
        found = source.describe(connection, url, a_job(query=query))
        made = PredictionSet(0, "flowers_job", "flowers", 1, 1, f"t{_name(output)}", None)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {made.table}")
        prediction_sets._create_table(connection, found, made, pa.schema([("y", output)]))
    return Target(engine, made, Claim(batch_id, run_id, 1, 4, 2, SPAN, None))


def _name(kind: pa.DataType) -> str:
    return "".join(c for c in str(kind) if c.isalnum())


def write(data: DataConnection, to: Target, values: pa.Array) -> None:
    keys = pa.record_batch({"id": pa.array(range(len(values)), pa.int32())})
    scored = pa.record_batch({"y": values})
    table = columns.to_ingest(table_types.table_types(data, to.set), to.set, keys, scored, to.held.batch_id)
    columns.commit(data, to.held, to.set, Part(table), Timing(0, 0))


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize("output", TYPES, ids=str)
def test_every_output_type_is_stored_as_it_was_with_nulls(
    engine: Engine, data: DataConnection, output: pa.DataType
) -> None:
    to, values = target(engine, output), [*SAMPLES[output], None]

    write(data, to, pa.array(values, output))

    assert to.kept() == values


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize("output", TYPES, ids=str)
def test_every_wrong_output_type_is_refused_before_anything_is_written(
    engine: Engine, data: DataConnection, output: pa.DataType
) -> None:
    to = target(engine, output)

    for wrong in (t for t in (*TYPES, *STRANGERS) if t != output):
        with pytest.raises(OutputError, match=r"y is .*, the table has .*Nothing was written"):
            write(data, to, pa.nulls(2, wrong))

    assert to.kept() == []


def test_an_output_too_few_or_too_many_is_refused(engine: Engine, data: DataConnection) -> None:
    to = target(engine, pa.float64())
    keys = pa.record_batch({"id": pa.array([1], pa.int32())})
    one = pa.array([0.5])

    none, two = pa.record_batch({"x": one}).select([]), pa.record_batch({"y": one, "z": one})
    for rows, message in ((none, "y is missing"), (two, "z is no column of the table")):
        with pytest.raises(OutputError, match=message):
            columns.to_ingest(table_types.table_types(data, to.set), to.set, keys, rows, 1)


def test_every_type_of_a_signature_can_be_stored() -> None:
    assert set(TYPES) == set(types._WRITE) == set(SAMPLES)
