"""The keys of the source rows of a batch."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from scorebeat.db.connect import user_sql
from scorebeat.db.connect.sql import Key, KeyRange, columns, texts, within
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.source.selection import snapshot
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.source import Source


def of_batch(connection: Connection, source: Source, run: Run, target: PredictionSet, batch_id: int) -> Iterator[Key]:
    """The keys as texts: those that the plan listed or stored; else those that the batch scored, and pending ones."""
    row = connection.execute(
        text(
            "SELECT first_key, last_key, keys, state, first_row, last_row FROM scorebeat.batches"
            " WHERE id = :id AND run_id = :run"
        ),
        {"id": batch_id, "run": run.id},
    ).one()
    if row.keys is not None:
        yield from (tuple(key) for key in row.keys)
        return
    if row.first_row is not None and snapshot.is_there(connection, run.id):
        stored = snapshot.source_of(connection, run.job, run.id)
        yield from snapshot.keys_in(connection, stored, (row.first_row, row.last_row))
        return
    span = KeyRange(tuple(row.first_key), tuple(row.last_key))
    keys = source.keys
    scored = connection.exec_driver_sql(
        f"SELECT {texts(keys, 'p')} FROM {target.table} AS p WHERE {within(keys, 'p', span)}"
        f" AND p.batch_id = {int(batch_id)} ORDER BY {columns(keys, 'p')}"
    )
    yield from (tuple(key) for key in scored)
    if row.state != "committed" and row.first_row is None:
        pending = PendingRows(source, target.table, target.id, run.selection.where)
        yield from (tuple(key) for key in user_sql.rows(connection, pending.keys(span, run.job.batch_rows)))
