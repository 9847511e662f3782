"""The primary key of a generation: its table is filled without, and the key is built once, before it is shown.

No two batches of a run have a row in common, and a batch commits behind its fence. So nothing needs to be looked up
while all goes well. The first who has to look a row up (an attempt that goes on where another ended, a requeue) builds
the key before; the closing of the run does at the latest.
"""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import KeyBeingBuilt, StoredTwice, one_line
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.sql import ident
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.schema import functions

PATIENCE = "2s"
"""How long it waits for a lock: longer than `deadlock_timeout`, after which PostgreSQL stops an autovacuum."""
IS_MISSING = "(s.unbuilt_key IS NOT NULL AND to_regclass('predictions.scorebeat_key_' || s.id) IS NULL)"
"""SQL: the table of the row `s` of prediction_sets has no index of its key. With one, every row is proven to be there
once, even while somebody who reads the table prevents that the index becomes the primary key."""
REPEATED = "23505"
NAMED = 3
"""Keys that an error names."""


def is_missing(connection: Connection, set_id: int) -> bool:
    query = text(f"SELECT {IS_MISSING} FROM scorebeat.prediction_sets s WHERE s.id = :id")
    return bool(connection.execute(query, {"id": set_id}).scalar_one())


def build(connection: Connection, target: PredictionSet) -> None:
    """Build the key if it is missing, by a function of the ledger's owner, in a transaction of its own.

    Readers go on meanwhile, and commits to the table wait. It may take minutes. Raises StoredTwice; KeyBeingBuilt if
    somebody else builds it now; DBAPIError.
    """
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{PATIENCE}'")
    try:
        with connection.begin_nested():
            is_there = functions.call(connection, "build_key", target.id)
    except DBAPIError as error:
        if error.orig is None or database_errors.sqlstate(error.orig) != REPEATED:
            raise
        raise StoredTwice(_repeated(connection, target)) from None
    if is_there is None:
        raise KeyBeingBuilt(f"another session builds the primary key of {target.table}")


def finish(connection: Connection, found: PredictionSet) -> None:
    """Make the index of a generation that is shown its primary key, if somebody who read it prevented that before."""
    if found.unbuilt_key is None:
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            functions.call(connection, "build_key", found.id)
    except DBAPIError as error:
        if not database_errors.is_lock(error):
            raise


def _repeated(connection: Connection, target: PredictionSet) -> str:
    """The keys that are stored more than once, with their batches."""
    keys = [ident(name) for name in target.unbuilt_key or ()]
    listed = ", ".join(keys)
    key = f"concat_ws(', ', {', '.join(f'{key}::text' for key in keys)})"
    rows = connection.exec_driver_sql(
        f"SELECT {key}, array_agg(DISTINCT batch_id ORDER BY batch_id)::text"
        f" FROM {target.table} GROUP BY {listed} HAVING count(*) > 1 ORDER BY {listed} LIMIT {NAMED + 1}"
    ).all()
    named = [f"({row[0]}) by batches {row[1].strip('{}')}" for row in rows[:NAMED]]
    more = " and others" if len(rows) > NAMED else ""
    return one_line(
        f"{target.table} has keys ({', '.join(target.unbuilt_key or ())}) more than once: {'; '.join(named)}{more}. "
        "Nothing of the run is shown. Either somebody wrote to the table, or the query gave a key twice, or this is an "
        "error of Scorebeat: please report it"
    )
