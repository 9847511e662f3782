"""Which rows a table of PostgreSQL can store: checked before a run begins."""

import pytest

from scorebeat.core.errors import QueryError
from scorebeat.db.source import snapshot
from tests.support.ledger_rows import a_job


def test_more_inputs_than_a_table_has_columns_are_refused_with_what_to_do() -> None:
    job = a_job(snapshot=True)
    snapshot.require_storable(job, ("id",), [f"c{n}" for n in range(1_598)])

    with pytest.raises(QueryError, match=r"a table of 1,601 columns.*1,599 inputs.*at most 1,600.* one array column"):
        snapshot.require_storable(job, ("id",), [f"c{n}" for n in range(1_599)])
