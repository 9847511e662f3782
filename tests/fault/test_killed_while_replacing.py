"""A worker dies in the commit that replaces predictions: none is lost, and another worker scores the rows."""

import subprocess
import sys

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from tests.integration.scoring.test_changed_rows import TABLE, change, values, watched
from tests.support.fixtures import REPOSITORY, environment, wait_for
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.slow

__all__ = ["points"]

WORKER = """
import sys
import tests.support.poison
from scorebeat.core.settings import Settings
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
score_batch(int(sys.argv[1]), Runtime(Settings(), name="doomed"))
"""
GATE = 4242
"""An advisory lock at which the commit waits."""
WAITS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :gate AND NOT granted"


@pytest.mark.parametrize("place", ["BEFORE DELETE", "AFTER DELETE", "AFTER INSERT"])
def test_a_worker_that_dies_while_it_replaces_predictions_takes_none_along(points: Points, place: str) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    for number in (7, 8):
        change(points, number, number * 10)
    points.sql(
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END $$"
    )
    points.sql(f"CREATE TRIGGER gate {place} ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION gate()")
    run = points.planned(job)
    (batch,) = points.pending(run)
    before = values(points)

    with points.engine.connect() as holder:
        holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({GATE})")
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(batch)], cwd=REPOSITORY, env=environment(points.settings)
        )
        try:
            (waiting,) = wait_for(lambda: points.sql(WAITS, gate=GATE))
            assert values(points) == before  # a reader sees the old predictions
        finally:
            worker.kill()
            worker.wait()
        holder.rollback()
    wait_for(lambda: not points.sql("SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=waiting))

    assert values(points) == before
    points.sql("UPDATE scorebeat.batches SET claim_expires_at = now() - interval '1 second' WHERE id = :id", id=batch)
    with points.engine.begin() as connection:
        assert batches.rescue(connection) == [(batch, run, "pending")]
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})
    assert points.sql(f"SELECT id, value FROM {TABLE}__history ORDER BY id") == [(7, 15.0), (8, 17.0)]
