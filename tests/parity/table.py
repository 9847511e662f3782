"""A DataFrame as a table in PostgreSQL: columns in another order, rows in another order, more columns than needed."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scorebeat.db.connect.sql import ident

_TYPES = {"int64": "bigint", "int32": "integer", "int16": "smallint", "float64": "float8", "float32": "real"}


def sql_type(column: Any) -> str:
    """The type that a team would give the column of such a Series."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return sql_type(dtype.categories.to_series())
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "timestamptz"
    if dtype.kind == "M":
        return "timestamp"
    if dtype.kind == "b" or {type(value) for value in column.dropna()} == {bool}:
        return "boolean"
    return _TYPES.get(str(dtype).lower(), "text")


def create(cursor: Any, table: str, frame: Any, keys: list[int], types: Mapping[str, str]) -> None:
    """Make and fill the table: `id` has the row's key, and rows lie in the order of their keys."""
    names = [*reversed(list(frame.columns))]
    kinds = {str(name): types.get(str(name)) or sql_type(frame[name]) for name in names}
    columns = ", ".join(f"{ident(name)} {kind}" for name, kind in kinds.items())
    cursor.execute(
        f'CREATE TABLE {table} ("not an input" text, {columns}, id bigint PRIMARY KEY, noted_at timestamptz)'
    )
    values = {name: _texts(frame[name], kinds[str(name)]) for name in names}
    lines = io.StringIO()
    for at in np.argsort(keys).tolist():
        row = ['it\'s "spare"', *(values[name][at] for name in names), str(keys[at]), r"\N"]
        lines.write("\t".join(row) + "\n")
    lines.seek(0)
    cursor.copy_expert(f"COPY {table} FROM STDIN", lines)
    cursor.execute(f"ANALYZE {table}")


def _texts(column: Any, kind: str) -> list[str]:
    if kind == "bigint":  # among which some may be missing, so that pandas made floats of them
        return [r"\N" if pd.isna(value) else str(int(value)) for value in column.astype(object)]
    return [_text(value) for value in column.astype(object)]


def _text(value: Any) -> str:
    """One value as COPY's text format has it."""
    if (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and np.isnan(value))
    ):
        return r"\N"
    if isinstance(value, pd.Timestamp):
        return str(value.isoformat())
    if isinstance(value, list | np.ndarray):
        return "{" + ",".join(repr(float(each)) for each in value) + "}"
    if isinstance(value, np.generic):
        value = value.item()
    text = str(value)
    for plain, escaped in (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escaped)
    return text
