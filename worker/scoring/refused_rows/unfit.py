"""Rows with values that Arrow cannot hold, and that arrived as other values: no model gets these rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow


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
            position = rows.schema.get_field_index(unfit.column)
            rows = rows.set_column(position, unfit.column, pc.if_else(unfit.rows, empty, column))
        else:
            refused.append(unfit)
    wrong = np.zeros(rows.num_rows, bool)
    for unfit in refused:
        wrong |= unfit.rows.to_numpy(zero_copy_only=False)
    bad = []
    for index in np.flatnonzero(wrong).tolist():
        reason = "; ".join(f"{unfit.column} {unfit.reason}" for unfit in refused if unfit.rows[index].as_py())
        bad.append(BadRow(quarantine.row_id(fetched.keys, index), "InputError", reason))
    good = pa.array(~wrong)
    return Fetched(fetched.keys.filter(good), rows.filter(good), fetched.more), tuple(bad)
