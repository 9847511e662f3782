"""Careful mode's moves: a row is blamed only for the death of the process that scored it alone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from db import batches, careful
from db.batches import Claim
from tests.ledger_fixtures import connection, shared_engine
from tests.ledger_rows import add_batch, add_run

__all__ = ["connection", "shared_engine"]

MINUTE, NOW = timedelta(minutes=1), timedelta(0)
Move = Callable[[Connection, Claim], Any]


def claim(connection: Connection, batch_id: int, ttl: timedelta = MINUTE) -> Claim:
    held = batches.claim(connection, batch_id, "w1", ttl)
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


def probing(connection: Connection) -> Claim:
    """A batch that is held, and whose row 7 is being scored alone."""
    held = claim(connection, add_batch(connection, add_run(connection)))
    assert careful.probe(connection, held, ("7",))
    return held


DEATHS: dict[str, Move] = {
    "its process": lambda c, held: batches.fail_lost(c, held.batch_id, "w1", "WorkerLostError: signal 11"),
    "its worker": expired,
}
SURVIVED: dict[str, Move] = {
    "an error": lambda c, held: batches.fail(c, held, "Broken: the disk is full", NOW),
    "a shutdown": lambda c, _: batches.release_all(c, "w1"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_row_that_its_process_died_with_is_put_aside_by_the_next_attempt(connection: Connection, death: str) -> None:
    died = probing(connection)
    DEATHS[death](connection, died)
    held = claim(connection, died.batch_id)
    target = connection.execute(text("SELECT max(id) FROM scorebeat.prediction_sets")).scalar_one()

    key = careful.quarantine_probe(connection, held, target, 5)

    assert (held.care, held.has_probe, key) == (2, True, ("7",))
    assert look(connection, held, "care, probe_key, rows_failed, attempts_left") == (1, None, 1, 5)
    (error,) = connection.execute(text("SELECT error FROM scorebeat.quarantine")).scalars()
    assert error.startswith("scoring this row alone ended the process: ")
    assert careful.quarantine_probe(connection, held, target, 5) is None


@pytest.mark.parametrize("end", SURVIVED)
def test_a_row_is_not_blamed_for_an_attempt_that_ended_otherwise(connection: Connection, end: str) -> None:
    was = probing(connection)
    SURVIVED[end](connection, was)

    held = claim(connection, was.batch_id)

    assert (held.attempt, held.has_probe) == (2, False)


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


def test_a_worker_that_lost_its_claim_neither_probes_nor_puts_aside(connection: Connection) -> None:
    late = probing(connection)
    expired(connection, late)
    held = claim(connection, late.batch_id)
    before = look(connection, held, "*")

    assert not careful.probe(connection, late, ("8",))
    assert careful.quarantine_probe(connection, late, 1, 5) is None
    careful.calm_down(connection, late)

    assert look(connection, held, "*") == before
