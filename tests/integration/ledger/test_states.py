"""A batch and a run move only as docs/states.md draws."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine, text

from scorebeat.core.errors import ClaimLost
from scorebeat.core.states import BatchState, RunState
from scorebeat.db.batch_io import columns
from scorebeat.db.batch_io.columns import Part, Timing
from scorebeat.db.closing import atomic_runs, run_ends
from scorebeat.db.connect.engine import data_connection
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger import batches, plan_lease, runs
from scorebeat.db.ledger.batches import Claim, NewBatch
from scorebeat.db.ledger.failures import quarantine, requeued
from scorebeat.db.predictions.prediction_sets import PredictionSet
from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import a_job, add_batch, add_run

__all__ = ["connection", "shared_engine"]

DRAWN = Path(__file__).parents[3] / "docs" / "states.md"
MINUTE = timedelta(minutes=1)
SPAN = KeyRange(("1",), ("10",))
Move = tuple[str, str, str]


def drawn(which: int) -> set[Move]:
    """From, to and name of each arrow of the drawing."""
    drawings = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", DRAWN.read_text("utf-8"), re.DOTALL)
    return set(re.findall(r"^\s*(\w+) --> (\w+) : (\w+)$", drawings[which].replace("[*]", "start"), re.MULTILINE))


def held(batch_id: int, run_id: int) -> Claim:
    """The claim that `add_batch` writes for a claimed batch."""
    return Claim(batch_id, run_id, 1, 0, 10, SPAN, None)


@dataclass(frozen=True)
class Here:
    """A batch in its run, each in some state."""

    connection: Connection
    run_id: int
    batch_id: int = 0

    @property
    def held(self) -> Claim:
        return held(self.batch_id, self.run_id)


BATCH_MOVES: dict[str, Callable[[Here], Any]] = {
    "claim": lambda h: batches.claim(h.connection, h.batch_id, "w2", MINUTE),
    "fail": lambda h: batches.fail(h.connection, h.held, "Broken: oh", MINUTE),
    "fail_lost": lambda h: batches.fail_lost(h.connection, h.batch_id, "w1", 41, "Died: oh"),
    "postpone": lambda h: batches.postpone(h.connection, h.held, "waits for a lock on items", MINUTE),
    "hold_back": lambda h: batches.hold_back(h.connection, h.run_id, MINUTE),
    "let_go": lambda h: batches.let_go(_held_back(h), h.run_id),
    "kill": lambda h: batches.kill(h.connection, h.held, "Broken: for good"),
    "rescue": lambda h: batches.rescue(_expired(h)),
    "requeue_dead": lambda h: requeued.requeue_dead(h.connection, h.run_id, 5),
    "cancel": lambda h: batches.cancel(h.connection, h.run_id),
    "release_all": lambda h: batches.release_all(h.connection, "w1"),
    "requeue_stopped": lambda h: requeued.requeue_stopped(h.connection, h.run_id, 5),
    "take_back": lambda h: quarantine.take_back(_with_a_bad_row(h), h.run_id),
    "begin_again": lambda h: atomic_runs.begin_again(h.connection, runs.get(h.connection, h.run_id), 5, MINUTE),
    "renew": lambda h: batches.renew(h.connection, [h.batch_id], "w1", MINUTE),
}
RUN_MOVES: dict[str, Callable[[Here], Any]] = {
    "finish": lambda h: plan_lease.finish(h.connection, h.run_id, 0),
    "close_expired": lambda h: plan_lease.close_expired(_expired(h)),
    "fail_spent": lambda h: plan_lease.fail_spent(_expired(h, plans=3)),
    "unplanned": lambda h: plan_lease.unplanned(_expired(h), MINUTE),
    "put_back": lambda h: plan_lease.put_back(h.connection, h.run_id, 0, "oh", MINUTE),
    "postpone": lambda h: plan_lease.postpone(h.connection, h.run_id, 0, "oh", MINUTE),
    "extend": lambda h: plan_lease.extend(h.connection, h.run_id, 0, MINUTE),
    "note_empty": lambda h: plan_lease.note_empty(h.connection, h.run_id, 0, True),
    "settle": lambda h: _settle(h.connection, h.run_id),
    "fail": lambda h: runs.fail(h.connection, h.run_id, "because"),
    "cancel": lambda h: runs.cancel(h.connection, h.run_id, "ann"),
    "reopen": lambda h: runs.reopen(h.connection, h.run_id),
    "hold": lambda h: runs.hold(h.connection, h.run_id, "because"),
    "release": lambda h: runs.release(h.connection, h.run_id),
    "discard": lambda h: runs.discard(h.connection, h.run_id, "because"),
}


def _held_back(here: Here) -> Connection:
    batches.hold_back(here.connection, here.run_id, MINUTE)
    return here.connection


def _with_a_bad_row(here: Here) -> Connection:
    here.connection.execute(
        text(
            "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error)"
            " SELECT prediction_set_id, :batch, '[\"7\"]', 'Bad', 'oh' FROM scorebeat.runs WHERE id = :run"
        ),
        {"batch": here.batch_id, "run": here.run_id},
    )
    here.connection.execute(text("UPDATE scorebeat.batches SET rows_failed = 1 WHERE id = :id"), {"id": here.batch_id})
    return here.connection


def _expired(here: Here, plans: int = 1) -> Connection:
    """Time passes: what expires has expired."""
    here.connection.exec_driver_sql(
        "UPDATE scorebeat.batches SET claim_expires_at = now() - interval '1 s' WHERE state = 'claimed'"
    )
    here.connection.exec_driver_sql(
        f"UPDATE scorebeat.runs SET plan_expires_at = now() - interval '1 s', plan_attempt = {plans}"
        " WHERE state = 'planning'"
    )
    return here.connection


def look(connection: Connection, table: str, row: int) -> dict[str, Any]:
    found = connection.execute(text(f"SELECT * FROM scorebeat.{table} WHERE id = :id"), {"id": row})
    return dict(found.one()._mapping)


def batch_moves(connection: Connection, name: str, state: BatchState, budget: int) -> set[Move]:
    """The move, if it changes the state of a batch in this one; else nothing of it may change."""
    with connection.begin_nested() as savepoint:
        run_id = add_run(connection)
        here = Here(connection, run_id, add_batch(connection, run_id, state, attempts_left=budget))
        before = look(connection, "batches", here.batch_id)
        BATCH_MOVES[name](here)
        after = look(connection, "batches", here.batch_id)
        savepoint.rollback()
    if after["state"] == state:
        kept = {
            "renew": {"claim_expires_at"},
            "take_back": {"rows_planned"},
            "hold_back": {"next_attempt_at", "sent_at"},
            "let_go": {"next_attempt_at", "sent_at"},
        }.get(name, set())
        assert {key for key in before if before[key] != after[key]} <= kept
        return set()
    return {(state.value, after["state"], name)}


def run_moves(connection: Connection, name: str, state: RunState, batch: BatchState | None) -> set[Move]:
    with connection.begin_nested() as savepoint:
        here = Here(connection, add_run(connection, state))
        if batch is not None:
            scored = 10 if batch is BatchState.COMMITTED else 0
            add_batch(connection, here.run_id, batch, rows_scored=scored)
            add_batch(connection, here.run_id, "committed", number=2, rows_scored=scored)
        RUN_MOVES[name](here)
        after = look(connection, "runs", here.run_id)
        savepoint.rollback()
    return {(state.value, after["state"], name)} if after["state"] != state else set()


@pytest.mark.parametrize("name", BATCH_MOVES)
def test_a_batch_moves_only_as_it_is_drawn(connection: Connection, name: str) -> None:
    made = {move for s in BatchState for left in (0, 3) for move in batch_moves(connection, name, s, left)}

    assert made == {move for move in drawn(1) if move[2] == name}


@pytest.mark.parametrize("name", RUN_MOVES)
def test_a_run_moves_only_as_it_is_drawn(connection: Connection, name: str) -> None:
    contents = (None, *BatchState)
    made = {move for s in RunState for b in contents for move in run_moves(connection, name, s, b)}
    made |= _partial(connection) if name == "settle" else set()

    assert made == {move for move in drawn(0) if move[2] == name}


def _partial(connection: Connection) -> set[Move]:
    run_id = add_run(connection)
    add_batch(connection, run_id, "committed", rows_scored=10)
    add_batch(connection, run_id, "dead", number=2)
    return {("running", str(_settle(connection, run_id)), "settle")}


def _settle(connection: Connection, run_id: int) -> RunState | None:
    if not run_ends.is_done(connection, run_id):
        return None
    return run_ends.settle(connection, runs.get(connection, run_id), run_ends.tally(connection, run_id))


def test_every_move_that_is_drawn_is_tried_here() -> None:
    assert {name for *_, name in drawn(1)} - set(BATCH_MOVES) == {"add", "commit"}
    assert {name for *_, name in drawn(0)} - set(RUN_MOVES) == {"start", "start_failed"}


def test_a_new_batch_is_pending(connection: Connection) -> None:
    run_id = add_run(connection, "planning")

    batches.add(connection, run_id, "cpu", 5, [NewBatch(1, 10, SPAN)])

    made = connection.exec_driver_sql("SELECT state, keys, attempt, attempts_left FROM scorebeat.batches").one()
    assert tuple(made) == ("pending", None, 0, 5)


def test_a_new_run_is_planning(connection: Connection) -> None:
    add_run(connection, "succeeded")
    set_id = connection.exec_driver_sql("SELECT id FROM scorebeat.prediction_sets").scalar_one()

    made = runs.start(connection, runs.Start(a_job(), "flowers", 1, set_id, "ann"), MINUTE)

    assert look(connection, "runs", made or 0)["state"] == "planning"


@pytest.mark.parametrize("state", BatchState)
def test_only_a_claimed_batch_is_committed(database: str, engine: Engine, state: BatchState) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        batch_id = add_batch(connection, run_id, state, attempt=1)
    target = PredictionSet(1, "flowers_job", "flowers", 1, 1, "nowhere", None)

    with data_connection(database) as data:
        try:
            columns.commit(data, held(batch_id, run_id), target, Part(_nothing()), Timing(0, 0))
        except ClaimLost:
            lost = True
        else:
            lost = False

    with engine.connect() as connection:
        after = look(connection, "batches", batch_id)["state"]
    assert (lost, after) == ((False, "committed") if state is BatchState.CLAIMED else (True, state))


def _nothing() -> pa.Table:
    return pa.table({"id": pa.array([], pa.int64())})
