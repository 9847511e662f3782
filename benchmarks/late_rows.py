"""A tick that finds 1,000 new rows among millions of scored ones: its time and its query plan."""

from typing import Any

from benchmarks.bench_stack import ITEMS, Bench, bench
from benchmarks.measure import checkpoint, timed_run
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.source import source
from scorebeat.db.source.selection.pending import PendingRows

NEW = 1_000


def late_rows(scored: int) -> dict[str, Any]:
    """Spread the new rows among the scored ones, like random keys; seconds of the run and PostgreSQL's plan."""
    with bench(scored) as b:
        with b.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO predictions.items__linear_v1 (id, label, x, y, z, batch_id)"
                f" SELECT id, 'x', 1, 0, 0, 0 FROM items WHERE id % {scored // NEW} <> 7"
            )
        checkpoint(b)
        timed = [timed_run(b)]
        for _ in range(2):
            with b.engine.begin() as connection:
                connection.exec_driver_sql(f"DELETE FROM predictions.items__linear_v1 WHERE id % {scored // NEW} = 7")
            checkpoint(b)
            timed.append(timed_run(b))
        best = timed[-1]
        return {
            "scored rows": scored,
            "new rows": best.rows,
            "enqueue to last commit, seconds": [t.seconds for t in timed],
            "of that planning, seconds": [t.planned for t in timed],
            "plan": _plan(b),
        }


def _plan(b: Bench) -> list[str]:
    with b.engine.connect() as connection:
        target = prediction_sets.get(connection, 1)
        found = source.describe(connection, b.p.url, ITEMS)
        stream = PendingRows(found, target.table, target.id, has_quarantine=False).key_stream(anti_join=True)
        return list(connection.exec_driver_sql(f"EXPLAIN DECLARE shown NO SCROLL CURSOR FOR {stream}").scalars())
