"""Rows whose inputs lack a value: a job may quarantine them before its model gets them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scorebeat.db.batch_io.columns import Fetched
from scorebeat.db.ledger.failures import quarantine
from scorebeat.db.ledger.failures.quarantine import BadRow
from scorebeat.models.arrow_types import is_list


def without_nulls(fetched: Fetched) -> tuple[Fetched, tuple[BadRow, ...]]:
    """Rows whose inputs all have a value, and the others. NaN is no value, nor is an array with NULL or NaN in it."""
    names = fetched.rows.schema.names
    lacking = np.array([_lacking(column) for column in fetched.rows.columns], bool)
    wrong = lacking.any(axis=0) if names else np.zeros(fetched.rows.num_rows, bool)
    if not wrong.any():
        return fetched, ()
    bad = []
    for index in np.flatnonzero(wrong).tolist():
        columns = ", ".join(np.array(names)[lacking[:, index]].tolist())
        reason = f'NULL or NaN in {columns}, which the job\'s null_inputs = "quarantine" quarantines'
        bad.append(BadRow(quarantine.row_id(fetched.keys, index), "InputError", reason))
    whole = pa.array(~wrong)
    return Fetched(fetched.keys.filter(whole), fetched.rows.filter(whole), fetched.more), tuple(bad)


def _lacking(column: pa.Array) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which rows of a column have no value."""
    rows: np.ndarray[Any, np.dtype[np.bool_]] = pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
    if not is_list(column.type):
        return rows
    elements = pc.is_null(pc.list_flatten(column), nan_is_null=True)
    rows = rows.copy()
    rows[pc.list_parent_indices(column).filter(elements).to_numpy()] = True
    return rows
