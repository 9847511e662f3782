"""Which rows a table of PostgreSQL can store: checked before a run begins."""

import pyarrow as pa
import pytest

from scorebeat.core.errors import QueryError
from scorebeat.db.source.selection import snapshot
from scorebeat.db.source.source import Source
from tests.support.ledger_rows import a_job


def of_inputs(number: int, kind: pa.DataType, cast: str = "") -> tuple[Source, list[str]]:
    names = [f"c{n}" for n in range(number)]
    columns = pa.schema([(name, kind) for name in names])
    return Source("flowers_job", "", (), columns, dict.fromkeys(names, cast) if cast else {}), names


def test_more_inputs_than_a_table_has_columns_are_refused_with_what_to_do() -> None:
    job = a_job(snapshot=True)
    snapshot.require_storable(job, *of_inputs(1_598, pa.bool_()))

    with pytest.raises(QueryError, match=r"a table of 1,601 columns.*1,599 inputs.*at most 1,600.* one array column"):
        snapshot.require_storable(job, *of_inputs(1_599, pa.bool_()))


@pytest.mark.parametrize(
    ("kind", "cast", "fit"),
    [(pa.float64(), "", 1_016), (pa.timestamp("us"), "", 1_016), (pa.int32(), "", 1_598), (pa.float64(), "::x", 1_598)],
)
def test_inputs_that_take_more_bytes_than_a_row_has_are_refused(kind: pa.DataType, cast: str, fit: int) -> None:
    job = a_job(snapshot=True)
    snapshot.require_storable(job, *of_inputs(fit, kind, cast))

    with pytest.raises(QueryError, match=r"cannot be stored.* one array column, or take snapshot out"):
        snapshot.require_storable(job, *of_inputs(fit + 1, kind, cast))
