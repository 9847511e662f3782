"""Names of output columns: those that PostgreSQL can hold, and those of --outputs."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from scorebeat.core.errors import StoreError
from scorebeat.core.identifiers import LONGEST_IDENTIFIER
from scorebeat.core.table_names import RESERVED_COLUMNS
from scorebeat.models.arrow_types import is_text

LABEL = "label"
MOST = 1_597
"""PostgreSQL's 1,600 columns of a table, less a key and two of every prediction table."""
ROOM = 8_000
"""Most bytes of a row: PostgreSQL moves long values out of a page of 8 KiB, but not numbers."""
_OUT_OF_LINE = 18
"""Bytes that a long value which was moved out still takes."""
RESERVED = RESERVED_COLUMNS | {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
"""Of every prediction table, and PostgreSQL's own of every table."""


def output_schema(fields: Sequence[tuple[str, pa.DataType]], names: Sequence[str], model: str) -> pa.Schema:
    """The outputs' schema; `names` replace those of all columns, or of all but the label.

    Raises StoreError for too many or too few names, or for a name that no column can have.
    """
    own = [name for name, _ in fields]
    if not names:
        columns = own
    elif len(names) == len(own):
        columns = [*names]
    elif own[0] == LABEL and len(names) == len(own) - 1:
        columns = [LABEL, *names]
    else:
        raise StoreError(
            f"{model} returns {len(own)} columns ({', '.join(own[:8])}), but --outputs has {len(names)} names "
            f"({', '.join(names[:8])}): name all of them, or all but `{LABEL}`"
        )
    types = [kind for _, kind in fields]
    twice = {name for name, count in Counter(columns).items() if count > 1}
    wrong = [f"{name!r} {reason}" for name in dict.fromkeys(columns) if (reason := _reason(name, twice))]
    if wrong:
        raise StoreError(
            f"{model}: {len(wrong)} output columns cannot be made: {'; '.join(wrong[:8])}. "
            "Choose other names with --outputs a,b,c"
        )
    row_bytes = sum(_OUT_OF_LINE if kind.num_fields or is_text(kind) else max(kind.bit_width // 8, 1) for kind in types)
    if len(types) > MOST or row_bytes > ROOM:
        raise StoreError(
            f"{model} returns {len(types):,} columns, more than a table's row holds in PostgreSQL, which is {MOST:,} "
            f"at most, or {ROOM // 8:,} of float64. Wrap it in a Python class that returns one array column, such as "
            "list<float32>, or fewer columns"
        )
    return pa.schema([*zip(columns, types, strict=True)])


def _reason(name: str, twice: set[str]) -> str | None:
    if not name:
        return "is empty"
    if name in twice:
        return "is used twice"
    if name in RESERVED:
        return "is the name of a column that every prediction table has"
    if "\0" in name:
        return "holds a NUL character"
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_IDENTIFIER:
        return f"is longer than {LONGEST_IDENTIFIER} bytes"
    return None
