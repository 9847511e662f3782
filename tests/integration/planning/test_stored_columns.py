"""What a snapshot can store of a query; `apply` refuses what PostgreSQL's tables cannot hold."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from scorebeat.core.errors import UsageError
from scorebeat.core.states import RunState
from scorebeat.models.contract import Described, Input, Signature
from tests.support import poison
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]

Reading = Callable[[int, pa.DataType], None]
"""`reads(number, kind)`: the model reads so many more inputs `c0`, `c1`, ... beside `x`."""


@pytest.fixture
def reads(points: Points, monkeypatch: pytest.MonkeyPatch) -> Reading:
    def add_model(number: int, kind: pa.DataType) -> None:
        inputs = (Input("x", pa.float64()), *(Input(f"c{i}", kind) for i in range(number)))
        signature = Signature(inputs, poison.SIGNATURE.outputs)
        monkeypatch.setattr(poison, "inspect", lambda *_: Described(signature))
        points.fill(20)
        points.model({})

    return add_model


def copies(value: str, number: int) -> str:
    return ", ".join(f"{value} AS c{i}" for i in range(number))


def test_a_row_that_is_too_wide_for_a_table_is_refused_by_apply(points: Points, reads: Reading) -> None:
    reads(1_020, pa.float64())

    with pytest.raises(UsageError, match="cannot be stored: with snapshot = true a row of its 1,021 inputs takes 8,"):
        points.job(query=f"SELECT id, x, {copies('x', 1_020)} FROM points", snapshot=True)


def test_a_run_whose_values_are_too_long_for_a_row_fails_with_what_to_do(points: Points, reads: Reading) -> None:
    reads(500, pa.string())
    job = points.job(query=f"SELECT id, x, {copies('long', 500)} FROM points, "
                           "(SELECT string_agg(md5(i::text), '') AS long FROM generate_series(1, 20) i) l",
                     snapshot=True)  # fmt: skip

    run = points.scored(job)

    assert points.run(run).state is RunState.FAILED
    (reason,) = points.sql("SELECT reason FROM scorebeat.runs")
    assert reason.startswith("jobs.points_job.query cannot be stored, as snapshot = true wants: row is too big")
    assert "Feed the inputs by one array column, or take snapshot out" in reason


@pytest.mark.parametrize("kind", ["text", "varchar(20)"])
def test_texts_whose_collation_is_not_known_are_stored(points: Points, reads: Reading, kind: str) -> None:
    reads(1, pa.string())
    points.sql(f"ALTER TABLE points ADD COLUMN a {kind} COLLATE \"C\" DEFAULT 'ä'")
    points.sql(f"ALTER TABLE points ADD COLUMN b {kind} COLLATE \"POSIX\" DEFAULT 'b'")
    job = points.job(query=f"SELECT id, x, CASE WHEN x > 5 THEN a ELSE b END::{kind} AS c0 FROM points", snapshot=True)

    assert points.run(points.scored(job)).state is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})
