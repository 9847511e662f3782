"""Runs in every state that a page can show, with texts as long and as odd as a ledger holds, straight in the ledger."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, text

from scorebeat.core.queues import SCORE
from scorebeat.db.ledger.evidence import profiles
from scorebeat.db.processes import workers
from scorebeat.drift.finding import Finding
from scorebeat.drift.profile import Profile
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower
from tests.support.forged_events import send_event
from tests.support.ledger_rows import add_batch, add_run
from tests.support.system import System

NAME = "m" * 40
"""As long as a job's name may be, and of wide letters."""
TURNED = "right\u2069\u202eleft"
"""A text that ends its isolation and turns around what follows."""
LONG = f"batch 3 is dead after 5 attempts: ValueError: {TURNED} " + "and the message goes on and on " * 63
"""About as long as a reason may be."""
WORKER = "night@" + "n" * 64 + "/123456"
DEAD = 10_000
TASK = "11111111-1111-1111-1111-111111111111"
FAR = ("PSI 2.92, limit 0.2", "moved by 1.56 standard deviations, limit 0.25")


@dataclass(frozen=True)
class Runs:
    """Numbers of the runs, by what is to be seen. None has a table, so nothing may be applied beside them."""

    open: int
    failed: int
    partial: int
    """With rows in quarantine."""
    dead: int
    """Of `DEAD` batches, which failed for fifty reasons."""
    held: int
    """Its columns drifted."""
    empty: int


def make(s: System, flower: Flower) -> Runs:
    """Flower knows a task, `TASK`, of a batch of the partial run."""
    with s.engine.begin() as connection:
        workers.seen(connection, WORKER, ["cpu"], "cpu", 1)
        runs = Runs(
            _open(connection), _failed(connection), _partial(connection), _dead(connection), _held(connection),
            add_run(connection, "succeeded", "idle"),
        )  # fmt: skip
        _pause(connection)
    for kind in ("task-received", "task-failed"):
        send_event(s, "cpu@here", kind, uuid=TASK, name=SCORE, args=f"[{s.first_batch(runs.partial)}]", kwargs="{}",
                   exception=LONG, traceback=LONG)  # fmt: skip
    wait_for(lambda: flower.get(f"/task/{TASK}").status_code == 200)
    return runs


def _open(connection: Connection) -> int:
    run = add_run(connection, "running", "o" * 40)
    for number, state in enumerate(("committed", "committed", "claimed", "pending"), 1):
        rows = 10 if state == "committed" else 0
        add_batch(connection, run, state, number=number, rows_scored=rows, queue="nightly")
    connection.execute(text("UPDATE scorebeat.runs SET deadline_at = created_at WHERE id = :run"), {"run": run})
    return run


def _failed(connection: Connection) -> int:
    run = add_run(connection, "failed", "f" * 40)
    add_batch(connection, run, "dead", error=LONG)
    connection.execute(text("UPDATE scorebeat.runs SET reason = :reason WHERE id = :run"), {"run": run, "reason": LONG})
    return run


def _partial(connection: Connection) -> int:
    run = add_run(connection, "partial", NAME)
    for number in range(1, 8):
        batch = add_batch(connection, run, "committed", number=number, rows_scored=9, rows_failed=1, claimed_by=WORKER)
        connection.execute(
            text(
                "INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)"
                " SELECT r.prediction_set_id, :batch, CAST(:key AS jsonb), 'ValueError', :error, :error"
                " FROM scorebeat.runs r WHERE r.id = :run"
            ),
            {
                "run": run,
                "batch": batch,
                "key": json.dumps([f"{number} {TURNED}" + "k" * 150]),
                "error": f"cause {number}: {LONG}",
            },
        )
    return run


def _dead(connection: Connection) -> int:
    run = add_run(connection, "partial", "dead")
    connection.execute(
        text(
            "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, attempt, attempts_left,"
            " first_key, last_key, claimed_by, claimed_at, finished_at, error) SELECT :run, n, 'cpu', 'dead', 1000, 5,"
            " 0, '[\"1\"]', '[\"10\"]', :worker, now(), now(), 'cause ' || n % 50 || ': ' || :error"
            " FROM generate_series(1, :dead) n"
        ),
        {"run": run, "worker": WORKER, "error": LONG[:1900], "dead": DEAD},
    )
    connection.execute(text("UPDATE scorebeat.runs SET reason = :reason WHERE id = :run"), {"run": run, "reason": LONG})
    return run


def _held(connection: Connection) -> int:
    run = add_run(connection, "held", "shifted")
    add_batch(connection, run, "committed", rows_scored=10)
    why = f"held by the gate of its job, and readers see none of it: drift of input {TURNED}: {', '.join(FAR)}."
    connection.execute(
        text("UPDATE scorebeat.runs SET reason = :reason WHERE id = :run"),
        {"run": run, "reason": f"{why} `scorebeat release {run}` shows it, `scorebeat discard {run}` drops it."},
    )
    connection.execute(
        text(
            "INSERT INTO scorebeat.run_profiles (run_id, job, profile, rows) VALUES (:run, 'shifted', :profile, 9000)"
        ),
        {"run": run, "profile": Profile().to_bytes()},
    )
    names = (TURNED, "c" * 63, "near")
    found = [
        Finding("input", name, 2.92, 1.56, (0.0, 0.001), (1001.5, 1.9e9), (None, 1902.0), FAR * (name != "near"))
        for name in names
    ]
    profiles.record(connection, run, None, found, None)
    return run


def _pause(connection: Connection) -> None:
    """The job of the longest name has a schedule in the zone of the longest name, and a pause with a long reason."""
    why = f"{TURNED} being rebuilt " + "and rebuilt " * 20
    spec = {"schedule": "0 2 * * *", "timezone": "America/Argentina/ComodRivadavia", "deadline": "45m"}
    connection.execute(
        text(
            "UPDATE scorebeat.jobs SET spec = spec || CAST(:spec AS jsonb), paused_at = now(), paused_by = :by,"
            " paused_reason = :why WHERE name = :name"
        ),
        {"spec": json.dumps(spec), "by": TURNED, "why": why, "name": NAME},
    )
    connection.execute(
        text(
            "INSERT INTO scorebeat.actions (by, action, subject, details) VALUES ('beat', 'tick.skipped',"
            " 'job ' || :name, jsonb_build_object('due_at', now(), 'reason', CAST(:why AS text)))"
        ),
        {"name": NAME, "why": why},
    )
