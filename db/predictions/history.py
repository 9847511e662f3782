"""History tables: predictions that were replaced, beside the prediction table of their set."""

from datetime import datetime

from sqlalchemy import Connection, select, text

from scorebeat.db.predictions.prediction_sets import COLUMNS, PredictionSet, of_row
from scorebeat.db.schema.tables import prediction_sets as sets

PIECE = 5_000
"""Number of rows that one transaction deletes."""


def with_history(connection: Connection) -> list[PredictionSet]:
    """The sets that have a history, of all jobs."""
    wanted = select(*COLUMNS).where(sets.c.history_table.is_not(None), sets.c.dropped_at.is_(None)).order_by(sets.c.id)
    return [of_row(row) for row in connection.execute(wanted)]


def count(connection: Connection, found: PredictionSet, cutoff: datetime) -> int:
    """Number of predictions that were replaced before the cutoff."""
    query = text(f"SELECT count(*) FROM {found.history} WHERE replaced_at < :cutoff")
    return int(connection.execute(query, {"cutoff": cutoff}).scalar_one())


def delete_piece(connection: Connection, found: PredictionSet, cutoff: datetime) -> int:
    """Delete a piece of them. Returns how many, 0 if none is left."""
    statement = text(
        f"DELETE FROM {found.history} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {found.history}"
        f" WHERE replaced_at < :cutoff LIMIT {PIECE}))"
    )
    return connection.execute(statement, {"cutoff": cutoff}).rowcount
