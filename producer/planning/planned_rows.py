"""The rows that a run may score, as its plan reads them: its query, and what is stored of its prediction set."""

from sqlalchemy import Connection

from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import prediction_sets, stored_keys
from scorebeat.db.source.selection import pending
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.producer.versions import prediction_tables
from scorebeat.producer.versions.prediction_tables import Fit


def fit(connection: Connection, run: Run) -> Fit:
    """The run's query and model, with the tables as they are now. Raises QueryError, SignatureError."""
    version = model_versions.get(connection, run.model, run.model_version)
    return prediction_tables.fit_now(connection, run.job, version, run.values)


def pending_rows(connection: Connection, run: Run, fitted: Fit) -> tuple[PendingRows, bool]:
    """The pending rows, and whether the prediction set and its quarantine are empty: then all rows are pending.

    Raises QueryError if the set's table cannot hold the query's keys.
    """
    target = prediction_sets.get(connection, run.prediction_set_id)
    stored_keys.require_room(connection, fitted.source, target)
    quarantined = pending.has_quarantine(connection, target.id)
    empty = pending.is_empty(connection, target.table) and not quarantined
    selection = run.selection
    return PendingRows(fitted.source, target.table, target.id, selection.where, quarantined, selection.keys), empty
