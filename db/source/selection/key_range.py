"""Whether PostgreSQL reads a query by the range of a batch's keys, or computes all of it for each batch.

The form of the plan and the number of rows decide, never an estimate: estimates change with every ANALYZE, and a job
that is accepted in the evening must not be refused at night.
"""

import re
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.core.jobs.job import Job
from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import Key, KeyColumn, columns, row, subquery
from scorebeat.db.source.cursor import Cursor
from scorebeat.db.source.source import Source

FEW = 1_000
"""Number of rows that may be computed again for each batch."""
_MARK = "scorebeat.key_"
"""A setting with the value of a key column: the plan shows its name wherever the condition on the key is used."""


def why_whole(connection: Connection, source: Source, job: Job, first: Key) -> str | None:
    """Why every batch would compute the whole query again; None if it would not, or if the job allows it.

    A query with no more rows than one batch, or `FEW`, may be computed as a whole. `first` is a key of it.
    """
    if job.allow_full_scans or job.snapshot or _is_cut(connection, source, first):
        return None
    most = max(job.batch_rows, FEW)
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {subquery(source.query)} LIMIT {most + 1}) AS c"
    if user_sql.rows(connection, counted)[0][0] <= most:
        return None
    index = f"index ({', '.join(k.name for k in source.keys)})"
    if not source.unique_by:
        index += (
            ", or the same expression if the query computes the key, as CREATE UNIQUE INDEX ON orders "
            "((code::text)) does for SELECT code::text AS id"
        )
    return (
        f"jobs.{job.name}.query cannot be cut by its key: it returns more than {most:,} rows, and no index is used for "
        f"the keys of a batch, so every batch would compute the whole query again. Set snapshot = true: a run then "
        f"computes it once, into a table of its own. Or {index}; or store the query's result in a table; "
        "allow_full_scans = true scores it nevertheless."
    )


def _is_cut(connection: Connection, source: Source, first: Key) -> bool:
    """Whether the plan for a batch uses the condition on its key to find the rows."""
    keys = source.keys
    with connection.begin_nested() as part:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for number, part_of_key in enumerate(first):
            connection.execute(
                text("SELECT set_config(:name, :value, true)"), {"name": f"{_MARK}{number}", "value": part_of_key}
            )
        # the statement for a batch of one key, as in `pending`
        ends = f"{row(keys, 'q')} >= {_marks(keys)} AND {row(keys, 'q')} <= {_marks(keys)}"
        if len(keys) > 1:
            ends += f" AND {row(keys[:1], 'q')} >= {_marks(keys[:1])} AND {row(keys[:1], 'q')} <= {_marks(keys[:1])}"
        statement = f"SELECT * FROM {subquery(source.query)} WHERE {ends} ORDER BY {columns(keys, 'q')}"
        nodes = list(user_sql.nodes(user_sql.plan(connection, statement)))
        part.rollback()
    if any(
        _MARK in str(node.get("Index Cond")) or node["Node Type"] in ("Foreign Scan", "Custom Scan") for node in nodes
    ):
        return True
    # the planner preferred another index, which may change with the next ANALYZE
    other = any(_MARK in str(node.get("Filter")) and "Index Name" in node for node in nodes)
    return other and _is_indexed(connection, source)


def cursor_index(connection: Connection, source: Source, cursor: Cursor) -> str | None:
    """Name of an index by which PostgreSQL finds the rows since a value of the cursor; None if it reads all."""
    with connection.begin_nested() as part:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        value = "1970-01-01" if cursor.is_time else "0"
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": f"{_MARK}0", "value": value})
        since = cursor.from_value(f"current_setting('{_MARK}0')::{cursor.type}")
        nodes = list(user_sql.nodes(user_sql.plan(connection, f"SELECT * FROM {subquery(source.query)} WHERE {since}")))
        part.rollback()
    found = [node for node in nodes if _MARK in str(node.get("Index Cond"))]
    return next((str(node["Index Name"]) for node in found if _has_first_column(connection, node)), None)


def _has_first_column(connection: Connection, node: dict[str, Any]) -> bool:
    """Whether the condition has the first column of its index: else PostgreSQL reads a btree from end to end."""
    first = connection.execute(
        text(
            "SELECT quote_ident(a.attname) FROM pg_class c JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'"
            " JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_attribute a ON a.attrelid = i.indrelid"
            " AND a.attnum = (i.indkey::int2[])[0] WHERE c.relname = :name"
        ),
        {"name": node["Index Name"]},
    ).scalars()
    return all(re.search(rf'(?<![\w"]){re.escape(name)}(?![\w"])', node["Index Cond"]) for name in first)


def _marks(keys: tuple[KeyColumn, ...]) -> str:
    parts = [f"current_setting('{_MARK}{number}')::{key.type}" for number, key in enumerate(keys)]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def _is_indexed(connection: Connection, source: Source) -> bool:
    """Whether an index of the key's table begins with the first column of the key."""
    if not source.unique_by:
        return False
    table, first, *_ = source.unique_by
    query = (
        "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = :table AND i.indisvalid AND i.indpred IS NULL"
        " AND (i.indkey::int2[])[0] = :first)"
    )
    return bool(connection.execute(text(query), {"table": table, "first": first}).scalar_one())
