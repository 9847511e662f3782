"""Values that reached us as something else than the query gives: rows that no model is to see so."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.ledger import quarantine
from scorebeat.db.ledger.quarantine import BadRow
from scorebeat.db.source.fetched_values import Unfit


def without_unfit(fetched: Fetched, out_of_range: str) -> tuple[Fetched, tuple[BadRow, ...]]:
    """Rows of which each value is the query's, and the others; with "null" dates out of range are NULL instead."""
    if not fetched.unfit:
        return fetched, ()
    rows = fetched.rows
    refused = []
    for one in fetched.unfit:
        if one.is_moment and out_of_range == "null":
            column = rows.column(one.column)
            empty = pa.scalar(None, column.type)
            at = rows.schema.get_field_index(one.column)
            rows = rows.set_column(at, one.column, pc.if_else(one.rows, empty, column))
        else:
            refused.append(one)
    wrong = np.zeros(rows.num_rows, bool)
    for one in refused:
        wrong |= one.rows.to_numpy(zero_copy_only=False)
    bad = tuple(_bad(fetched.keys, i, refused) for i in np.flatnonzero(wrong).tolist())
    good = pa.array(~wrong)
    return Fetched(fetched.keys.filter(good), rows.filter(good), fetched.more), bad


def _bad(keys: pa.RecordBatch, index: int, refused: Sequence[Unfit]) -> BadRow:
    said = "; ".join(f"{one.column} {one.reason}" for one in refused if one.rows[index].as_py())
    return BadRow(quarantine.keys_of(keys, index), "InputError", said)
