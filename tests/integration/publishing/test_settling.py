"""A run ends once all its batches did, whatever interleaves, and a requeue opens it again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.errors import UsageError
from scorebeat.core.states import RunState
from scorebeat.db.closing import run_ends
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger import batches, runs
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.failures import requeued
from scorebeat.producer.context import Producer
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.requeue import cancel, requeue
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_batch, add_run

__all__ = ["ledger", "trained"]

FINISH = text(
    "UPDATE scorebeat.batches SET state = 'committed', claim_expires_at = NULL, finished_at = now(),"
    " rows_scored = 10 WHERE id = :id"
)


def run_with(engine: Engine, *states: str) -> tuple[int, list[int]]:
    with engine.begin() as connection:
        run_id = add_run(connection)
        ids = [add_batch(connection, run_id, state, number=n) for n, state in enumerate(states, 1)]
        connection.exec_driver_sql("UPDATE scorebeat.batches SET rows_scored = 10 WHERE state = 'committed'")
    return run_id, ids


def state(engine: Engine, run_id: int) -> str:
    with engine.connect() as connection:
        return runs.get(connection, run_id).state


def test_two_last_commits_that_cannot_see_each_other_end_by_the_control_tick(
    engine: Engine, producer: Producer
) -> None:
    run_id, (one, other) = run_with(engine, "claimed", "claimed")

    with engine.connect() as first, engine.connect() as second:
        first.execute(FINISH, {"id": one})
        second.execute(FINISH, {"id": other})
        unseen = [run_ends.is_settled(first, run_id), run_ends.is_settled(second, run_id)]
        first.commit()
        second.commit()

    assert unseen == [False, False]
    assert state(engine, run_id) == "running"
    assert run_once(producer).settled == 1
    assert state(engine, run_id) == "succeeded"


ENDS = {
    "succeeded": ("committed", "committed"),
    "partial": ("committed", "dead"),
    "failed": ("dead", "dead"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_run_reports_what_became_of_its_batches(engine: Engine, producer: Producer, end: str) -> None:
    run_id, _ = run_with(engine, *ENDS[end])

    assert settle(producer, run_id) == end

    with engine.connect() as connection:
        reason = runs.get(connection, run_id).reason
    dead = ENDS[end].count("dead")
    command = f"`scorebeat requeue {run_id}` puts back what it left out"
    assert reason == (f"{dead} of 2 batches are dead, the first by: Broken: oh; {command}" if dead else None)


@pytest.mark.parametrize("open_state", ["pending", "claimed"])
def test_a_run_with_an_open_batch_is_not_settled(engine: Engine, producer: Producer, open_state: str) -> None:
    run_id, _ = run_with(engine, "committed", open_state)

    assert settle(producer, run_id) is None
    assert run_once(producer).settled == 0


def test_a_run_that_is_still_planned_is_not_settled(ledger: Ledger) -> None:
    run_id = ledger.enqueue(a_job())

    assert settle(ledger.producer, run_id) is None


def test_many_settlers_at_once_settle_once(engine: Engine, producer: Producer) -> None:
    run_id, _ = run_with(engine, "committed")

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda _: settle(producer, run_id), range(12)))

    assert [a for a in states if a] == [RunState.SUCCEEDED]


def test_a_requeue_beside_a_settle_never_leaves_a_closed_run_with_open_batches(
    engine: Engine, producer: Producer
) -> None:
    run_id, _ = run_with(engine, "committed", "dead")

    with engine.begin() as requeueing, ThreadPoolExecutor(1) as pool:
        runs.get(requeueing, run_id, lock=True)
        requeued.requeue_dead(requeueing, run_id, 5)
        # it does not wait: the next control tick looks again
        assert pool.submit(settle, producer, run_id).result(timeout=5) is None
        requeueing.commit()

    assert settle(producer, run_id) is None
    assert state(engine, run_id) == "running"


def test_a_requeued_run_goes_on_and_ends_well(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    run_id = ledger.planned(a_job())
    first, *others = ledger.batch_ids(run_id)
    with ledger.engine.begin() as connection:
        held = batches.claim(connection, first, "w", timedelta(minutes=1))
        assert held is not None
        batches.kill(connection, held, "Broken: for good")
    for batch_id in others:
        score_batch(batch_id, ledger.runtime)
    assert ledger.run(run_id).state == "partial"

    assert requeue(ledger.producer, run_id, "ann", error="for good") == 1
    assert requeue(ledger.producer, run_id, "ann") == 0

    assert score_batch(first, ledger.runtime) is Outcome.COMMITTED
    assert ledger.run(run_id).state == "succeeded"
    assert ledger.check_exact("SELECT * FROM items", ledger.target(run_id).table, "id") == 25


def test_a_requeue_selects_one_batch_or_those_with_an_error(engine: Engine, producer: Producer) -> None:
    run_id, (one, two, three) = run_with(engine, "dead", "dead", "dead")
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.batches SET error = '100% of _x_' WHERE id = :id"), {"id": two})
    settle(producer, run_id)

    counts = [requeue(producer, run_id, "ann", error="% of _"), requeue(producer, run_id, "ann", batch_id=three)]

    assert counts == [1, 1]
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id, state FROM scorebeat.batches ORDER BY id").all()
    assert [tuple(row) for row in found] == [(one, "dead"), (two, "pending"), (three, "pending")]


def test_a_run_does_not_go_on_while_another_of_its_job_is_open(engine: Engine, producer: Producer) -> None:
    run_id, _ = run_with(engine, "dead")
    settle(producer, run_id)
    with engine.begin() as connection:
        other = add_run(connection)

    with pytest.raises(UsageError, match=f"run {run_id} cannot go on while run {other} .* Nothing was changed"):
        requeue(producer, run_id, "ann")

    assert state(engine, run_id) == "failed"


def test_a_cancelled_run_is_not_requeued_and_its_worker_commits_nothing_more(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    run_id = ledger.planned(a_job())
    first, second, third = ledger.batch_ids(run_id)
    score_batch(first, ledger.runtime)

    assert cancel(ledger.producer, run_id, "ann")
    assert not cancel(ledger.producer, run_id, "ann")

    assert [score_batch(b, ledger.runtime) for b in (second, third)] == [Outcome.SKIPPED] * 2
    assert ledger.check_exact("SELECT * FROM items WHERE id <= 10", ledger.target(run_id).table, "id") == 10
    with pytest.raises(UsageError, match="was cancelled; its rows are pending"):
        requeue(ledger.producer, run_id, "ann")


def test_the_last_batch_that_dies_by_rescue_settles_the_run(engine: Engine, producer: Producer) -> None:
    run_id, (batch_id, _) = run_with(engine, "claimed", "committed")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE scorebeat.batches SET attempts_left = 0, claim_expires_at = now() - interval '1 s'"
            f" WHERE id = {batch_id}"
        )

    rescue(producer)

    assert state(engine, run_id) == "partial"


def test_a_run_whose_last_batch_fails_for_good_is_ended_by_the_control_tick(engine: Engine, producer: Producer) -> None:
    run_id, (batch_id,) = run_with(engine, "claimed")
    held = Claim(batch_id, run_id, 1, 0, 10, KeyRange(("1",), ("10",)), None)
    with engine.begin() as connection:
        batches.kill(connection, held, "Broken: oh")

    run_once(producer)

    assert state(engine, run_id) == "failed"
