"""Careful mode's moves: a row is blamed only for the death of the process that scored it alone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from scorebeat.db.connect.sql import Key, KeyColumn
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.ledger.failures import isolation, quarantine
from scorebeat.db.ledger.failures.quarantine import RowId
from scorebeat.db.predictions import prediction_sets
from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import add_batch, add_run
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["connection", "points", "shared_engine"]

MINUTE, NOW = timedelta(minutes=1), timedelta(0)
ID = (KeyColumn("id", "bigint"),)
CHILD = 41
Move = Callable[[Connection, Claim], Any]


def claim(connection: Connection, batch_id: int, ttl: timedelta = MINUTE) -> Claim:
    held = batches.claim(connection, batch_id, "w1", ttl, pid=CHILD)
    assert held is not None
    return held


def expired(connection: Connection, held: Claim) -> None:
    connection.execute(
        text("UPDATE scorebeat.batches SET claim_expires_at = now() - interval '1 s' WHERE id = :id"),
        {"id": held.batch_id},
    )
    batches.rescue(connection)


def look(connection: Connection, held: Claim, what: str) -> tuple[Any, ...]:
    found = connection.execute(text(f"SELECT {what} FROM scorebeat.batches WHERE id = :id"), {"id": held.batch_id})
    return tuple(found.one())


def quarantine_probed(connection: Connection, held: Claim) -> Key | None:
    """The first step of the next attempt."""
    target = connection.execute(text("SELECT max(id) FROM scorebeat.prediction_sets")).scalar_one()
    return isolation.quarantine_probe(connection, held, prediction_sets.get(connection, target), ID, 5)


def probing(connection: Connection) -> Claim:
    """A batch that is held, and whose row 7 is being scored alone."""
    held = claim(connection, add_batch(connection, add_run(connection)))
    connection.execute(text("ALTER TABLE predictions.flowers_job__t ADD id bigint PRIMARY KEY"))
    assert isolation.probe(connection, held, RowId(("7",)))
    return held


def process_died(connection: Connection, held: Claim, pid: int = CHILD) -> str | None:
    return batches.fail_lost(connection, held.batch_id, "w1", pid, "WorkerLostError: signal 11")


def expired_twice(connection: Connection, held: Claim) -> None:
    expired(connection, held)
    again = claim(connection, held.batch_id)
    assert isolation.probe(connection, again, RowId(("7",)))
    expired(connection, again)


def taken_back(connection: Connection, held: Claim) -> None:
    """A person requeues a row of the batch."""
    connection.execute(
        text(
            "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
            " SELECT max(id), :id, '[\"3\"]', 'Broken', 'oh' FROM scorebeat.prediction_sets"
        ),
        {"id": held.batch_id},
    )
    connection.execute(text("UPDATE scorebeat.batches SET rows_failed = 1 WHERE id = :id"), {"id": held.batch_id})
    assert quarantine.take_back(connection, held.run_id).freed == 1


DEATHS: dict[str, Move] = {"its process": process_died, "its worker": expired}
PROOFS: dict[str, Move] = {"its process": process_died, "its worker, twice": expired_twice}
SURVIVED: dict[str, Move] = {
    "an error": lambda c, held: batches.fail(c, held, "Broken: the disk is full", NOW),
    "a shutdown": lambda c, _: batches.release_all(c, "w1"),
    "a requeue": taken_back,
}


@pytest.mark.parametrize("death", PROOFS)
def test_a_row_that_its_process_died_with_is_quarantined_by_the_next_attempt(
    connection: Connection, death: str
) -> None:
    died = probing(connection)
    PROOFS[death](connection, died)
    held = claim(connection, died.batch_id)

    key = quarantine_probed(connection, held)

    assert (held.care, held.probe_is_deadly, key) == (2, True, ("7",))
    assert look(connection, held, "care, probe_key, rows_failed, attempts_left") == (1, None, 1, 5)
    (error,) = connection.execute(text("SELECT error FROM scorebeat.quarantine")).scalars()
    assert error.startswith("scoring this row alone ended the process: ")
    assert quarantine_probed(connection, held) is None


def test_a_row_is_not_blamed_for_one_claim_that_expired(connection: Connection) -> None:
    was = probing(connection)
    expired(connection, was)
    held = claim(connection, was.batch_id)
    assert (held.care, held.probe_is_deadly) == (2, False)

    isolation.probe(connection, held, RowId(("8",)))
    expired(connection, held)
    isolation.probe(connection, again := claim(connection, was.batch_id), RowId(("7",)))
    expired(connection, again)

    assert not claim(connection, was.batch_id).probe_is_deadly


def test_a_row_in_progress_when_the_database_went_away_is_scored(points: Points) -> None:
    points.fill(30)
    points.model({})
    job = points.job()
    run = points.planned(job)
    with points.engine.begin() as connection:
        isolation.probe(connection, held := claim(connection, points.pending(run)[0]), RowId(("7",)))
        expired(connection, held)

    points.work(run)

    assert points.batches(run) == [("committed", 2)]
    assert_accounted(points.engine, job, {})


def test_a_row_that_has_a_prediction_is_not_quarantined_for_a_death(connection: Connection) -> None:
    died = probing(connection)
    process_died(connection, died)
    connection.execute(text("INSERT INTO predictions.flowers_job__t VALUES (7)"))
    held = claim(connection, died.batch_id)

    assert quarantine_probed(connection, held) is None

    assert look(connection, held, "care, probe_key, rows_failed") == (1, None, 0)
    assert connection.execute(text("SELECT count(*) FROM scorebeat.quarantine")).scalar_one() == 0


def test_a_death_frees_only_the_claims_of_that_process(connection: Connection) -> None:
    first = claim(connection, add_batch(connection, add_run(connection)))
    expired(connection, first)
    second = batches.claim(connection, first.batch_id, "w1", MINUTE, pid=CHILD + 1)
    assert second is not None
    before = look(connection, second, "*")

    assert process_died(connection, first) is None
    assert look(connection, second, "*") == before

    assert process_died(connection, second, CHILD + 1) == "pending"


def test_a_death_frees_nothing_of_another_worker_whose_process_has_the_same_number(connection: Connection) -> None:
    first = claim(connection, add_batch(connection, add_run(connection)))
    expired(connection, first)
    second = batches.claim(connection, first.batch_id, "w2", MINUTE, pid=CHILD)
    assert second is not None
    before = look(connection, second, "*")

    assert process_died(connection, first) is None

    assert look(connection, second, "*") == before


@pytest.mark.parametrize("end", SURVIVED)
def test_a_row_that_its_process_survived_is_not_blamed_for_the_death_of_the_next(
    connection: Connection, end: str
) -> None:
    was = probing(connection)
    SURVIVED[end](connection, was)
    process_died(connection, claim(connection, was.batch_id))

    assert not claim(connection, was.batch_id).probe_is_deadly


@pytest.mark.parametrize("death", DEATHS)
def test_a_row_is_not_blamed_for_the_death_of_an_attempt_that_did_not_come_as_far(
    connection: Connection, death: str
) -> None:
    was = probing(connection)
    expired(connection, was)
    again = claim(connection, was.batch_id)

    DEATHS[death](connection, again)

    held = claim(connection, was.batch_id)
    assert not held.probe_is_deadly
    assert isolation.probe(connection, held, RowId(("7",)))
    expired(connection, held)
    assert claim(connection, was.batch_id).probe_is_deadly


@pytest.mark.parametrize("end", SURVIVED)
def test_a_row_is_not_blamed_for_an_attempt_that_ended_otherwise(connection: Connection, end: str) -> None:
    was = probing(connection)
    SURVIVED[end](connection, was)

    held = claim(connection, was.batch_id)

    assert (held.attempt, held.probe_is_deadly) == (2, False)


@pytest.mark.parametrize("death", DEATHS)
def test_each_death_makes_the_next_attempt_more_careful(connection: Connection, death: str) -> None:
    held = claim(connection, add_batch(connection, add_run(connection)))
    cares = [held.care]
    for _ in range(3):
        DEATHS[death](connection, held)
        held = claim(connection, held.batch_id)
        cares.append(held.care)

    assert cares == [0, 1, 2, 2]


def test_an_error_that_the_process_survived_makes_no_attempt_more_careful(connection: Connection) -> None:
    held = claim(connection, add_batch(connection, add_run(connection)))
    batches.fail(connection, held, "Broken: the disk is full", NOW)

    assert claim(connection, held.batch_id).care == 0


def test_a_worker_that_lost_its_claim_neither_probes_nor_quarantines(connection: Connection) -> None:
    late = probing(connection)
    expired(connection, late)
    held = claim(connection, late.batch_id)
    before = look(connection, held, "*")

    assert not isolation.probe(connection, late, RowId(("8",)))
    assert quarantine_probed(connection, late) is None
    isolation.calm_down(connection, late)

    assert look(connection, held, "*") == before
