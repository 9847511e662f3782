"""Under a role that owns nothing, everything that a run needs is done."""

from typing import Any

import pytest

from scorebeat.core.states import RunState
from scorebeat.producer.control import control_round
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import cancel, requeue
from tests.support.poison_fixtures import assert_accounted
from tests.support.roles_fixtures import LockedPoints, locked, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "roles"]

TABLE = "predictions.points_job__poison_v1"


def bad(points: LockedPoints, **options: Any) -> Any:
    """A job over 60 points, two of which the model refuses."""
    points.fill(60)
    points.model({"raise": [7, 30]})
    return points.job(batch_rows=20, **options)


def test_bad_rows_are_quarantined_and_requeued_under_the_role_that_runs(locked: LockedPoints) -> None:
    job = bad(locked)

    run = locked.scored(job)

    assert locked.run(run).state is RunState.PARTIAL or locked.quarantined(job)
    assert_accounted(locked.engine, job, {7: "ValueError", 30: "ValueError"})
    locked.mend()
    assert requeue(locked.runner, run, "ann") > 0
    assert locked.work(run) is RunState.SUCCEEDED
    assert_accounted(locked.engine, job, {})


def test_a_run_to_be_shown_whole_is_undone_and_tried_again_under_the_role_that_runs(locked: LockedPoints) -> None:
    job = bad(locked, on_failure="retry-run", run_attempts=2)

    run = locked.scored(job)

    assert locked.run(run).state is RunState.FAILED
    assert locked.sql(f"SELECT count(*) FROM {TABLE}") == [0]
    locked.mend()
    assert requeue(locked.runner, run, "ann") == 3
    assert locked.view(job) == {}
    assert locked.work(run) is RunState.SUCCEEDED
    assert len(locked.view(job)) == 60


def test_generations_come_are_shown_and_go_under_the_role_that_runs(locked: LockedPoints) -> None:
    locked.fill(40)
    locked.model({})
    job = locked.job(rescore="every-run", keep=2)

    for _ in range(4):
        locked.sql("UPDATE points SET x = x + 1")
        assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED

    assert locked.view(job) == dict(locked.sql("SELECT id, 2 * x FROM points"))
    left = locked.sql("SELECT relname FROM pg_class WHERE relname LIKE 'points_job\\_%' AND relkind = 'r' ORDER BY oid")
    assert left == ["points_job__poison_v1_g3", "points_job__poison_v1_g4"]


def test_a_generation_shown_whole_or_not_at_all_needs_no_more(locked: LockedPoints) -> None:
    job = bad(locked, rescore="every-run", on_failure="retry-run", run_attempts=1)

    run = locked.scored(job)

    assert locked.run(run).state is RunState.FAILED
    assert locked.sql("SELECT count(*) FROM predictions.points_job__poison_v1_g1") == [0]
    locked.mend()
    requeue(locked.runner, run, "ann")
    assert locked.work(run) is RunState.SUCCEEDED
    assert len(locked.view(job)) == 60


def test_after_a_new_version_was_published_the_next_runs_need_no_other_rights(locked: LockedPoints) -> None:
    locked.fill(40)
    locked.model({})
    job = locked.job(rescore="every-run")
    locked.scored(job)
    locked.model({}, another=2)

    candidate = enqueue(locked.runner, Request(job.name, "ann", version=2)).run_id
    cancel(locked.runner, candidate, "ann")
    assert locked.publish(2) == ["points_job"]
    run = locked.scored(job)

    assert locked.run(run).model_version == 2
    assert len(locked.view(job)) == 40


def test_a_control_tick_does_all_its_parts_under_the_role_that_runs(
    locked: LockedPoints, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    locked.fill(40)
    locked.model({})
    job = locked.job(schedule="every 1 second", deadline="1s", notify="http://127.0.0.1:9/hook")
    locked.sql("UPDATE scorebeat.jobs SET last_due_at = now() - interval '1 minute'")
    locked.sql("INSERT INTO scorebeat.workers (name, queues, seen_at) VALUES ('old', '[]', now() - interval '9 days')")

    run = locked.planned(job)
    locked.sql(
        "UPDATE scorebeat.batches SET state = 'claimed', claimed_by = 'gone', sent_at = NULL,"
        " claim_expires_at = now() - interval '1 s' WHERE run_id = :run",
        run=run,
    )
    done = control_round.run_once(locked.runner)

    assert done.rescued == 1
    assert locked.work(run) is RunState.SUCCEEDED
    control_round.run_once(locked.runner)
    assert locked.sql("SELECT count(*) FROM scorebeat.notices") > [0]
    assert locked.sql("SELECT count(*) FROM scorebeat.workers WHERE name = 'old'") == [0]
    assert "permission denied" not in capsys.readouterr().err + caplog.text
