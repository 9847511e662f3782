"""A batch has one holder, and an attempt that outlived its claim changes nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.db.batch_io import columns
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import BatchId, Claim
from scorebeat.db.ledger.failures import requeued
from tests.support.ledger_fixtures import ledger, trained
from tests.support.ledger_rows import add_batch, add_run

__all__ = ["ledger", "trained"]

MINUTE, NOW = timedelta(minutes=1), timedelta(0)


@pytest.fixture
def pending(engine: Engine) -> BatchId:
    """A batch of a running run."""
    with engine.begin() as connection:
        return add_batch(connection, add_run(connection))


def claim(engine: Engine, batch_id: BatchId, worker: str, ttl: timedelta = MINUTE) -> Claim:
    with engine.begin() as connection:
        held = batches.claim(connection, batch_id, worker, ttl)
    assert held is not None
    return held


def do(engine: Engine, move: Callable[[Connection], Any]) -> Any:
    with engine.begin() as connection:
        return move(connection)


def look(engine: Engine, batch_id: BatchId, what: str = "state, attempt, attempts_left") -> tuple[Any, ...]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT {what} FROM scorebeat.batches WHERE id = {batch_id}")
        return tuple(found.one())


def test_one_of_many_concurrent_claims_gets_the_batch(engine: Engine, pending: BatchId) -> None:
    def try_it(number: int) -> Claim | None:
        with engine.begin() as connection:
            return batches.claim(connection, pending, f"w{number}", MINUTE)

    with ThreadPoolExecutor(4) as pool:
        found = [held for held in pool.map(try_it, range(24)) if held is not None]

    assert len(found) == 1
    assert look(engine, pending) == ("claimed", 1, 4)


def test_an_attempt_counts_from_its_claim_so_that_a_killed_one_counts(engine: Engine, pending: BatchId) -> None:
    claim(engine, pending, "w1")

    assert look(engine, pending) == ("claimed", 1, 4)


@pytest.mark.parametrize("state", ["succeeded", "partial", "failed", "cancelled"])
def test_no_batch_of_a_closed_run_is_claimed(engine: Engine, state: str) -> None:
    with engine.begin() as connection:
        batch_id = add_batch(connection, add_run(connection, state))

    assert do(engine, lambda c: batches.claim(c, batch_id, "w1", MINUTE)) is None


def test_a_batch_that_pauses_is_claimed_when_the_pause_is_over(engine: Engine, pending: BatchId) -> None:
    held = claim(engine, pending, "w1")
    do(engine, lambda c: batches.fail(c, held, "Broken: oh", MINUTE))

    assert do(engine, lambda c: batches.claim(c, pending, "w2", MINUTE)) is None

    do(engine, lambda c: c.exec_driver_sql("UPDATE scorebeat.batches SET next_attempt_at = now()"))
    assert claim(engine, pending, "w2").attempt == 2


LATE: dict[str, Callable[[Connection, Claim], Any]] = {
    "fail": lambda c, held: batches.fail(c, held, "Late: oh", NOW),
    "kill": lambda c, held: batches.kill(c, held, "Late: oh"),
    "renew": lambda c, held: batches.renew(c, [held.batch_id], "slow", timedelta(hours=9)),
    "fail_lost": lambda c, held: batches.fail_lost(c, held.batch_id, "slow", 41, "Late: oh"),
}


@pytest.mark.parametrize("move", LATE)
def test_an_attempt_that_is_not_the_holder_any_more_moves_nothing(engine: Engine, pending: BatchId, move: str) -> None:
    slow = claim(engine, pending, "slow", NOW)
    do(engine, batches.rescue)
    claim(engine, pending, "fast")
    before = look(engine, pending, "*")

    outcome = do(engine, lambda c: LATE[move](c, slow))

    assert not outcome
    assert look(engine, pending, "*") == before


@pytest.mark.parametrize("move", ["fail", "kill"])
def test_the_same_worker_with_a_later_attempt_is_another_holder(engine: Engine, pending: BatchId, move: str) -> None:
    first = claim(engine, pending, "slow", NOW)
    do(engine, batches.rescue)
    claim(engine, pending, "slow")

    assert not do(engine, lambda c: LATE[move](c, first))
    assert look(engine, pending)[:2] == ("claimed", 2)


def test_a_budget_that_is_spent_makes_the_batch_dead(engine: Engine, pending: BatchId) -> None:
    states = []
    for number in range(5):
        held = claim(engine, pending, f"w{number}")
        states.append(do(engine, partial(batches.fail, held=held, error="Broken: oh", pause=NOW)))

    assert states == ["pending"] * 4 + ["dead"]
    assert look(engine, pending, "attempt, attempts_left, error") == (5, 0, "Broken: oh")
    assert do(engine, lambda c: batches.claim(c, pending, "w", MINUTE)) is None


def test_claims_that_expire_spend_the_budget_too(engine: Engine, pending: BatchId) -> None:
    states = []
    for number in range(5):
        claim(engine, pending, f"w{number}", NOW)
        states += [state for *_, state in do(engine, batches.rescue)]

    assert states == ["pending"] * 4 + ["dead"]
    assert look(engine, pending, "error")[0].startswith("attempt 5 expired: w4 died")


def test_a_release_returns_the_attempt_to_the_budget_but_never_its_number(engine: Engine, pending: BatchId) -> None:
    for number in range(8):
        held = claim(engine, pending, "w1")
        assert held.attempt == number + 1
        assert do(engine, lambda c: batches.release_all(c, "w1"))

    assert look(engine, pending) == ("pending", 8, 5)


def test_a_requeued_batch_has_a_new_budget_and_goes_on_counting(engine: Engine, pending: BatchId) -> None:
    held = claim(engine, pending, "w1")
    do(engine, lambda c: batches.kill(c, held, "Broken: oh"))

    do(engine, lambda c: requeued.requeue_dead(c, held.run_id, 5))

    assert look(engine, pending) == ("pending", 1, 5)
    assert claim(engine, pending, "w2").attempt == 2


def test_renewing_extends_only_what_the_worker_holds_and_what_has_not_expired(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        mine, others, over, free = (add_batch(connection, run_id, number=n) for n in range(1, 5))
    claim(engine, mine, "w1")
    claim(engine, others, "w2")
    claim(engine, over, "w1", NOW)

    held = do(engine, lambda c: batches.renew(c, [mine, others, over, free], "w1", timedelta(hours=9)))

    long = "coalesce(claim_expires_at > now() + interval '8 hours', false)"
    assert held == 1
    assert [look(engine, batch_id, long)[0] for batch_id in (mine, others, over, free)] == [True, False, False, False]


def test_rescue_leaves_a_claim_alone_while_its_worker_commits(engine: Engine, pending: BatchId) -> None:
    held = claim(engine, pending, "w1", NOW)

    with engine.begin() as committing:
        committing.exec_driver_sql(columns._fence(held))
        with ThreadPoolExecutor(1) as pool:
            skipped = pool.submit(do, engine, batches.rescue).result(timeout=5)

    assert skipped == []
    assert [state for *_, state in do(engine, batches.rescue)] == ["pending"]


def test_a_batch_that_commits_holds_up_the_renewal_of_no_other(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        ids = [add_batch(connection, run_id, number=number) for number in (1, 2)]
    first, _ = (claim(engine, batch_id, "w1") for batch_id in ids)

    with engine.begin() as committing:
        committing.exec_driver_sql(columns._fence(first))
        with ThreadPoolExecutor(1) as pool:
            renewed = pool.submit(do, engine, lambda c: batches.renew(c, ids, "w1", MINUTE)).result(timeout=5)

    assert renewed == 1


def test_a_claim_that_has_not_expired_is_not_rescued(engine: Engine, pending: BatchId) -> None:
    claim(engine, pending, "w1")

    assert do(engine, batches.rescue) == []
