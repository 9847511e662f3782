"""One planner plans a run; one that died, or lost its lease, leaves a run that still ends."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from scorebeat.core.errors import QueryError
from scorebeat.core.states import RunState
from scorebeat.db.ledger import plan_lease
from scorebeat.producer.control import plan as planner
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

__all__ = ["ledger", "trained"]

MINUTE = timedelta(minutes=1)
EXPIRE = "UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s' WHERE state = 'planning'"


def fill(ledger: Ledger, last: int) -> None:
    ledger.sql(FILL.format(first=1, last=last))


def sizes(ledger: Ledger, run_id: int) -> list[int]:
    return [ledger.batch(batch_id)["rows_planned"] for batch_id in ledger.batch_ids(run_id)]


def test_a_second_planner_finds_the_plan_taken(ledger: Ledger) -> None:
    fill(ledger, 5)
    run_id = ledger.enqueue(a_job())
    with ledger.engine.begin() as connection:
        plan_lease.claim(connection, run_id, "first", MINUTE)

    assert plan(ledger.producer, run_id) is None
    assert ledger.run(run_id).plan_attempt == 1


def test_a_plan_that_was_made_is_not_made_again(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = ledger.planned(a_job())

    assert plan(ledger.producer, run_id) is None
    assert sizes(ledger, run_id) == [10, 10, 5]


def test_a_planner_that_dies_with_batches_leaves_a_run_that_ends(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = dead_planner(ledger, batches=2)

    assert rescue(ledger.producer) == 1
    ledger.score(run_id)

    run = ledger.run(run_id)
    assert (run.state, run.reason and "planning was cut short" in run.reason) == ("partial", True)
    rest = ledger.scored(a_job())
    assert ledger.check_exact("SELECT * FROM items", ledger.target(rest).table, "id") == 25


def test_a_planner_that_dies_without_batches_is_replaced_three_times_at_most(ledger: Ledger) -> None:
    run_id = ledger.enqueue(a_job())

    for _ in range(plan_lease.MAX_PLANS):
        with ledger.engine.begin() as connection:
            assert plan_lease.claim(connection, run_id, "doomed", MINUTE) is not None
        ledger.sql(EXPIRE)
        rescue(ledger.producer)

    run = ledger.run(run_id)
    assert (run.state, run.reason) == (
        "failed",
        "planning died 3 times without making a batch. `scorebeat enqueue flowers_job` scores its rows by another run",
    )


def test_a_planner_that_is_storing_its_first_batch_holds_up_no_other_plan(ledger: Ledger) -> None:
    slow, _ = (ledger.enqueue(a_job(name=name)) for name in ("slow_job", "lost_job"))
    ledger.sql(EXPIRE)

    with ledger.runtime.engine.begin() as storing:
        assert plan_lease.extend(storing, slow, 0, MINUTE)
        with ThreadPoolExecutor(1) as pool:
            sent_again = pool.submit(rescue, ledger.producer).result(timeout=5)

    assert sent_again == 1


def test_a_planner_that_lost_its_lease_stops_and_stores_nothing_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 65)
    real = planner._store
    monkeypatch.setattr(planner, "GROUP_ROWS", 1)

    def lose_it(*arguments: Any) -> None:
        real(*arguments)
        ledger.sql(EXPIRE)
        rescue(ledger.producer)

    monkeypatch.setattr(planner, "_store", lose_it)

    run_id = ledger.enqueue(a_job())

    assert plan(ledger.producer, run_id) is None
    assert sizes(ledger, run_id) == [10]
    assert ledger.run(run_id).state is RunState.RUNNING


def test_a_replaced_planner_neither_ends_the_plan_nor_reports_its_start(ledger: Ledger) -> None:
    run_id = ledger.enqueue(a_job())
    with ledger.engine.begin() as connection:
        late = plan_lease.claim(connection, run_id, "late", timedelta(0))
        assert late is not None
        assert plan_lease.claim(connection, run_id, "in its stead", MINUTE) == late + 1

        plan_lease.note_empty(connection, run_id, late, was_empty=True)
        assert not plan_lease.finish(connection, run_id, late)

    run = ledger.run(run_id)
    assert (run.state, run.plan_is_whole, run.set_was_empty) == (RunState.PLANNING, False, None)


def test_a_planner_that_lost_its_lease_cannot_fail_the_run(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ledger, 65)
    real = planner._store
    monkeypatch.setattr(planner, "GROUP_ROWS", 1)

    def stall_and_fail(*arguments: Any) -> None:
        real(*arguments)
        ledger.sql(EXPIRE)
        rescue(ledger.producer)
        raise QueryError("too late")

    monkeypatch.setattr(planner, "_store", stall_and_fail)
    run_id = ledger.enqueue(a_job())
    plan(ledger.producer, run_id)

    assert ledger.run(run_id).state is RunState.RUNNING
    assert [ledger.batch(b)["state"] for b in ledger.batch_ids(run_id)] == ["pending"]


def test_a_run_cancelled_while_it_is_planned_gets_no_more_batches(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 65)
    real = planner._store
    monkeypatch.setattr(planner, "GROUP_ROWS", 1)

    def cancel(*arguments: Any) -> None:
        real(*arguments)
        ledger.sql("UPDATE scorebeat.batches SET state = 'cancelled', sent_at = NULL, finished_at = now()")
        ledger.sql("UPDATE scorebeat.runs SET state = 'cancelled', plan_expires_at = NULL, finished_at = now()")

    monkeypatch.setattr(planner, "_store", cancel)

    run_id = ledger.enqueue(a_job())
    plan(ledger.producer, run_id)

    assert {ledger.batch(b)["state"] for b in ledger.batch_ids(run_id)} == {"cancelled"}
    assert ledger.run(run_id).state is RunState.CANCELLED


def dead_planner(ledger: Ledger, batches: int) -> int:
    """A run whose planner stored some batches, and then no more was heard of it."""

    class Died(Exception):
        pass

    stored: list[Any] = []
    run_id, real = ledger.enqueue(a_job()), planner._store

    def die(*arguments: Any) -> None:
        if len(stored) == batches:
            raise Died
        stored.append(real(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "GROUP_ROWS", 1)
        patch.setattr(planner, "_store", die)
        with pytest.raises(Died):
            plan(ledger.producer, run_id)
    ledger.sql(EXPIRE)
    return run_id


def test_a_run_whose_plan_message_was_lost_is_sent_again_once_a_lease(ledger: Ledger, broker: str) -> None:
    run_id = ledger.enqueue(a_job())
    valkey = redis.Redis(unix_socket_path=urlsplit(broker).path)
    valkey.flushall()

    too_soon = rescue(ledger.producer)
    ledger.sql(EXPIRE)
    again, twice = rescue(ledger.producer), rescue(ledger.producer)

    assert (too_soon, again, twice) == (0, 1, 0)
    assert valkey.llen(f"{ledger.producer.app.prefix()}plan") == 1
    assert plan(ledger.producer, run_id) == 0
