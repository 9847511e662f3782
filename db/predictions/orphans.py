"""Orphans: predictions, and rows in quarantine, whose source row the job's query no longer returns."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection

from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import Key, among, literal, same_key, subquery, texts
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source.source import Source

PIECE = 5_000
"""Number of keys that are read, and deleted, at once."""


def predictions(connection: Connection, source: Source, target: PredictionSet, cutoff: datetime) -> tuple[int, int]:
    """Number of predictions made before the cutoff, and how many of them are orphans; runs the whole query."""
    old = f"SELECT count(*) FROM {target.table} AS p WHERE {_old('p.scored_at', cutoff)}"
    gone = f"SELECT count(*) FROM ({_predictions(source, target, cutoff)}) AS g"
    return _first_number(connection, old), _first_number(connection, gone)


def prediction_keys(
    connection: Connection, source: Source, target: PredictionSet, cutoff: datetime
) -> Iterator[list[Key]]:
    """The keys of those orphans, piece by piece, in the caller's snapshot."""
    user_sql.open_cursor(connection, "orphans", _predictions(source, target, cutoff))
    while found := [tuple(row) for row in connection.exec_driver_sql(f"FETCH FORWARD {PIECE} FROM orphans")]:
        yield found
    connection.exec_driver_sql("CLOSE orphans")


def delete_predictions(
    connection: Connection, source: Source, target: PredictionSet, keys: Sequence[Key], cutoff: datetime
) -> int:
    """Delete these, except those that were scored again since, or whose source row has come back.

    The statement that deletes runs the query again, which `predictions` ran READ ONLY before.
    """
    gone = _still_gone(source, keys, cutoff)
    return _delete_counted(connection, f"DELETE FROM {target.table} AS p WHERE {gone}")


def follow_predictions(
    connection: Connection, source: Source, target: PredictionSet, keys: Sequence[Key], cutoff: datetime
) -> int:
    """`delete_predictions` by a function of the ledger's owner, for a job with `deleted = "follow"` or a history.

    If the job keeps the history they move there.
    """
    rows = f"jsonb_agg(jsonb_build_array(p.ctid::text, p.xmin::text, NULL)) FROM {target.table} AS p"
    gone = f"(SELECT {rows} WHERE {_still_gone(source, keys, cutoff)})"
    return _first_number(connection, f"SELECT scorebeat.replace_rows({target.id:d}, {gone})")


def _still_gone(source: Source, keys: Sequence[Key], cutoff: datetime) -> str:
    back = f"SELECT 1 FROM {subquery(source.query)} WHERE {among(source.keys, 'q', keys)}"
    return (
        f"{among(source.keys, 'p', keys)} AND {_old('p.scored_at', cutoff)}"
        f" AND NOT EXISTS ({back} AND {same_key(source.keys, 'p', 'q')})"
    )


def quarantined(connection: Connection, source: Source, target: PredictionSet, cutoff: datetime) -> list[int]:
    """Ids of orphans in quarantine."""
    found = user_sql.rows(
        connection,
        f"SELECT z.id FROM scorebeat.quarantine AS z WHERE z.prediction_set_id = {target.id:d}"
        f" AND {_old('z.quarantined_at', cutoff)} AND {_without_row(source)} ORDER BY z.id",
    )
    return [row[0] for row in found]


def delete_quarantined(connection: Connection, source: Source, ids: Sequence[int]) -> int:
    """Delete these, except those whose source row has come back."""
    listed = ", ".join(f"{i:d}" for i in ids)
    statement = f"DELETE FROM scorebeat.quarantine AS z WHERE z.id IN ({listed}) AND {_without_row(source)}"
    return _delete_counted(connection, statement)


def _without_row(source: Source) -> str:
    key = f"jsonb_build_array({texts(source.keys, 'q')})"
    return f"NOT EXISTS (SELECT 1 FROM {subquery(source.query)} WHERE {key} = z.key)"


def _predictions(source: Source, target: PredictionSet, cutoff: datetime) -> str:
    return (
        f"SELECT {texts(source.keys, 'p')} FROM {target.table} AS p WHERE {_old('p.scored_at', cutoff)}"
        f" AND NOT EXISTS (SELECT 1 FROM {subquery(source.query)} WHERE {same_key(source.keys, 'p', 'q')})"
    )


def _old(column: str, cutoff: datetime) -> str:
    return f"{column} < {literal(cutoff.isoformat())}::timestamptz"


def _first_number(connection: Connection, statement: str) -> int:
    return int(user_sql.rows(connection, statement)[0][0])


def _delete_counted(connection: Connection, delete: str) -> int:
    return _first_number(connection, f"WITH gone AS ({delete} RETURNING 1) SELECT count(*) FROM gone")
