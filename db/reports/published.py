"""The published predictions of a job as readers see them: all of them as an Arrow table, or the share of a label."""

import adbc_driver_manager
import pyarrow as pa
from sqlalchemy import Connection, Engine, text

from scorebeat.core.errors import UsageError
from scorebeat.core.table_names import PREDICTIONS
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import ident
from scorebeat.db.reports import results
from scorebeat.db.source.fetched_values import find_out_of_range
from scorebeat.db.source.values import types


def table(engine: Engine, url: str, job: str) -> pa.Table:
    """The rows of the view `predictions.<job>` now, read by one statement, in no order.

    Columns that Arrow has no type for, such as `numeric` and `inet`, are texts. Raises UnknownName, or UsageError if
    there is no view, if it may not be read, or if Arrow cannot hold a value.
    """
    with results.reading(engine) as connection:
        shape = results.shape(connection, job)
        if not shape.columns:
            raise UsageError(f"job {job!r} has no predictions to read yet: score it with `scorebeat enqueue {job}`")
        kinds = connection.execute(
            text(
                "SELECT a.attname, t.typname, t.typtype FROM pg_catalog.pg_attribute a"
                " JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
                " WHERE a.attrelid = to_regclass(:view) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
            ),
            {"view": shape.view},
        ).all()
    chosen = []
    for name, type_name, kind in kinds:
        reading = types.reading(type_name, kind)
        cast = "::text" if reading is None or type_name in types.THROUGH_TEXT else reading.cast
        chosen.append(f"{ident(name)}{cast} AS {ident(name)}")
    try:
        with data_connection(url, "scorebeat client") as opened, opened.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(chosen)} FROM {shape.view}")
            found = cursor.fetch_arrow_table()
    except adbc_driver_manager.Error as error:
        raise UsageError(f"the predictions of job {job!r} cannot be read: {database_errors.message(error)}") from None
    for name, column in zip(found.column_names, found.columns, strict=True):
        for wrong in find_out_of_range(name, column.combine_chunks()):
            raise UsageError(
                f"column {name!r} of job {job!r} has a value that {wrong.reason.replace('a model', 'Arrow')}: read the "
                f"view {shape.view} by SQL, with {ident(name)}::text"
            )
    return found.replace_schema_metadata(None)


def share_of_label(connection: Connection, job: str, label: str) -> float:
    """The share of a classifier's published predictions that have this label, from 0 to 1."""
    share = connection.execute(
        text(f"SELECT avg((label = :label)::int) FROM {PREDICTIONS}.{ident(job)}"), {"label": label}
    ).scalar_one()
    return float(share)
