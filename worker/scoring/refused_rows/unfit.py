"""Rows with values that Arrow cannot hold, and that arrived as other values: no model gets these rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.db.source.fetched_values import Unfit


def without_unfit(fetched: Fetched, out_of_range: str) -> tuple[Fetched, tuple[BadRow, ...]]:
    """Rows whose values are all the query's, and the other rows; with "null" a date out of range becomes NULL."""
    if not fetched.unfit:
        return fetched, ()
    rows = fetched.rows
    refused = []
    for unfit in fetched.unfit:
        if unfit.is_timestamp and out_of_range == "null":
            column = rows.column(unfit.column)
            empty = pa.scalar(None, column.type)
            index = rows.schema.get_field_index(unfit.column)
            rows = rows.set_column(index, unfit.column, pc.if_else(unfit.rows, empty, column))
        else:
            refused.append(unfit)
    wrong = np.zeros(rows.num_rows, bool)
    for unfit in refused:
        wrong |= unfit.rows.to_numpy(zero_copy_only=False)
    bad = tuple(_bad(fetched.keys, i, refused) for i in np.flatnonzero(wrong).tolist())
    good = pa.array(~wrong)
    return Fetched(fetched.keys.filter(good), rows.filter(good), fetched.more), bad


def _bad(keys: pa.RecordBatch, index: int, refused: Sequence[Unfit]) -> BadRow:
    reason = "; ".join(f"{unfit.column} {unfit.reason}" for unfit in refused if unfit.rows[index].as_py())
    return BadRow(quarantine.row_id(keys, index), "InputError", reason)
