"""What a query reads: its tables, and those whose rows appear later than their transactions end.

Views and simple SQL functions are seen through, as PostgreSQL plans them.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import subquery
from scorebeat.db.source.source import Source


@dataclass(frozen=True)
class Relations:
    """What PostgreSQL reads for a query."""

    stored_in: tuple[tuple[int, int], ...]
    """Oid and file number of each table, partitions too. They are others when tables are swapped, attached, detached,
    or truncated and filled again: rows come that are older than when they could be seen."""
    late: str | None
    """Something whose rows may come later than a transaction that we see ends, and why; None if there is none."""


def read_by(connection: Connection, source: Source) -> Relations:
    """What the query reads now, by PostgreSQL's plan."""
    plan = user_sql.plan(connection, f"SELECT * FROM {subquery(source.query)}", ", VERBOSE")
    nodes = list(user_sql.nodes(plan))
    tables = [(node["Schema"], node["Relation Name"]) for node in nodes if "Relation Name" in node and "Schema" in node]
    found = connection.execute(
        text(
            "SELECT c.oid::bigint AS oid, c.relfilenode::bigint AS file,"
            " CASE WHEN c.relkind = 'm' THEN format('%I.%I', n.nspname, c.relname) END AS refreshed"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) IN"
            " (SELECT * FROM unnest(CAST(:schemas AS name[]), CAST(:names AS name[]))) ORDER BY c.oid"
        ),
        {"schemas": [schema for schema, _ in tables], "names": [name for _, name in tables]},
    ).all()
    late = [_late(node) for node in nodes]
    late += [f"the materialized view {t.refreshed}, whose rows are older than it" for t in found if t.refreshed]
    return Relations(tuple((t.oid, t.file) for t in found), next((what for what in late if what is not None), None))


def _late(node: dict[str, Any]) -> str | None:
    match node["Node Type"]:
        case "Foreign Scan" | "Custom Scan":
            return "a foreign table, whose open transactions are not seen here"
        case "Function Scan" if node.get("Schema") != "pg_catalog":
            name = node.get("Function Name")
            what = "several functions" if name is None else f"the function {node['Schema']}.{name}"
            return f"rows of {what}, whose tables are not known"
    return None
