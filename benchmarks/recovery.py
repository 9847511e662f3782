"""`make recovery`: the time from each fault until work goes on, with default settings, beside the promised bound."""

import argparse
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from benchmarks.recovery_stage import Stage, stage
from scorebeat.core.jobs.job import Job
from tests.support.fixtures import kill_group
from tests.support.poison_fixtures import assert_accounted
from tests.support.system import IN_A_FETCH, children

BAD_ROW = 12_345
HELD_ROWS = 1_000
"""At 50 ms a row, a batch takes far longer than a claim lasts without a renewal."""
SLOW_PLAN = f"CASE WHEN {IN_A_FETCH} THEN true ELSE pg_sleep(0.001) IS NOT NULL END"
"""True for every row; a plan needs a millisecond to read it."""


@dataclass(frozen=True)
class Fault:
    """A fault, the event that ends the wait, and the longest time until then."""

    name: str
    until: str
    bound: int
    """Seconds."""
    measure: Callable[[Stage, int], float]
    """Causes the fault once and returns seconds; `turn` counts from 0."""
    once: bool = False


def kill_worker(s: Stage, turn: int) -> float:
    """Kill it right after a renewal, when its claim lasts longest; one second later in each further turn."""
    job = _held(s)
    with s.workers(2, "cpu"), s.workers(1, "plan"), s.run(job) as run_id:
        holder = _until_renewed(s, run_id)
        time.sleep(turn)
        began = s.now()
        kill_group(s.process(holder))
        return _seconds(began, _claimed_again(s, run_id))


def kill_process(s: Stage, turn: int) -> float:
    job = _held(s)
    with s.workers(2, "cpu"), s.workers(1, "plan"), s.run(job) as run_id:
        holder = _until_renewed(s, run_id)
        time.sleep(turn)
        (child,) = children(s.process(holder).pid)
        began = s.now()
        os.kill(child, signal.SIGKILL)
        return _seconds(began, _claimed_again(s, run_id))


def wipe_broker(s: Stage, turn: int) -> float:
    """Wipe it while a hundred new messages are in the queue, and workers will look for more at once."""
    job = _job(s, f"wiped_{turn}", "quick", '{"seconds_a_row": 0.002}', batch_rows=200)
    with s.workers(2, "cpu"), s.workers(1, "plan"), s.run(job) as run_id:
        s.wait_for_time("SELECT planned_at FROM scorebeat.runs WHERE id = :id AND planned_at IS NOT NULL", id=run_id)
        s.flush_broker()
        began = s.now()
        # a batch whose message was received before the wipe is no recovery
        query = (
            "SELECT claimed_at FROM scorebeat.batches WHERE run_id = :id"
            " AND claimed_at > CAST(:began AS timestamptz) + interval '0.3 s' ORDER BY claimed_at LIMIT 1"
        )
        return _seconds(began, s.wait_for_time(query, id=run_id, began=began))


def kill_planner(s: Stage, turn: int) -> float:
    """Kill it after some batches were made: the run goes on with those, to its end."""
    job = _job(s, f"cut_{turn}", "good", "{}", SLOW_PLAN, batch_rows=1_000)
    with s.workers(1, "cpu"), s.workers(1, "plan"), s.run(job) as run_id:
        s.wait_for_time("SELECT r.created_at FROM scorebeat.runs r JOIN scorebeat.batches b ON b.run_id = r.id"
                 " WHERE r.id = :id AND b.number = 2", id=run_id)  # fmt: skip
        began = _kill_planner(s, run_id)
        return _seconds(began, s.until_final(run_id))


def kill_planner_at_once(s: Stage, turn: int) -> float:
    """Kill it before it made any batch: another planner plans the run."""
    job = _job(s, f"again_{turn}", "good", "{}", SLOW_PLAN, batch_rows=1_000)
    with s.workers(1, "cpu"), s.workers(2, "plan"), s.run(job) as run_id:
        began = _kill_planner(s, run_id)
        query = "SELECT min(claimed_at) FROM scorebeat.batches WHERE run_id = :id HAVING min(claimed_at) IS NOT NULL"
        return _seconds(began, s.wait_for_time(query, id=run_id))


def segfaulting_row(s: Stage, turn: int) -> float:
    return _deadly_row(s, turn, "segfault")


def exiting_row(s: Stage, turn: int) -> float:
    return _deadly_row(s, turn, "exit")


def hanging_row(s: Stage, turn: int) -> float:
    return _deadly_row(s, turn, "hang")


FAULTS = (
    Fault("kill -9 of a worker", "its batch is claimed by another", 20, kill_worker),
    Fault("kill -9 of a scoring process", "its batch is claimed again", 20, kill_process),
    Fault("FLUSHALL with 100 messages out", "next batch claimed", 15, wipe_broker),
    Fault("kill -9 of a planner that made batches", "run closed with those scored", 30, kill_planner),
    Fault("kill -9 of a planner that made none", "first batch claimed", 30, kill_planner_at_once),
    Fault("one row of 20,000 segfaults", "row quarantined, all others committed", 60, segfaulting_row),
    Fault("one row of 20,000 ends the process", "row quarantined, all others committed", 60, exiting_row),
    Fault("one row of 20,000 hangs", "row quarantined, all others committed", 600, hanging_row, once=True),
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turns", type=int, default=3, help="of each fault; the hanging row is measured once")
    options.add_argument("--only", default="", help="faults whose name holds this text")
    chosen = options.parse_args()
    broken = 0
    with stage() as s:
        print(f"{'fault':40} {'until':36} {'median':>8} {'worst':>8} {'bound':>8}", flush=True)
        for fault in FAULTS:
            if chosen.only not in fault.name:
                continue
            found = [fault.measure(s, turn) for turn in range(1 if fault.once else chosen.turns)]
            broken += max(found) > fault.bound
            verdict = "" if max(found) <= fault.bound else "  BROKEN"
            times = f"{statistics.median(found):6.1f} s {max(found):6.1f} s {fault.bound:6} s"
            print(f"{fault.name:40} {fault.until:36} {times}{verdict}", flush=True)
    return int(broken > 0)


def _held(s: Stage) -> Job:
    return _job(s, "held", "held", '{"seconds_a_row": 0.05}', f"id <= {HELD_ROWS}")


def _job(s: Stage, name: str, model: str, harm: str, where: str = "true", batch_rows: int = 50_000) -> Job:
    """The job, made with its model at the first call."""
    found = next((job for job in s.jobs if job.name == name), None)
    if found is not None:
        return found
    if not s.query("SELECT 1 FROM scorebeat.model_versions WHERE name = :name", name=model):
        s.model(model, harm)
    return s.job(name, model, where, batch_rows=batch_rows)


def _until_renewed(s: Stage, run_id: int) -> str:
    """Wait for the first renewal of the claim of the run's only batch; returns who has it."""
    query = (
        "SELECT claimed_by FROM scorebeat.batches WHERE run_id = :id AND state = 'claimed'"
        " AND claim_expires_at > claimed_at + CAST(:ttl AS interval) + interval '0.1 s'"
    )
    return str(s.wait_for(lambda: s.query(query, id=run_id, ttl=s.p.settings.claim_ttl))[0][0])


def _claimed_again(s: Stage, run_id: int) -> datetime:
    return s.wait_for_time("SELECT claimed_at FROM scorebeat.batches WHERE run_id = :id AND attempt = 2", id=run_id)


def _kill_planner(s: Stage, run_id: int) -> datetime:
    """Kill the run's planner; returns when."""
    query = "SELECT planned_by FROM scorebeat.runs WHERE id = :id AND state = 'planning' AND planned_by IS NOT NULL"
    planner = str(s.wait_for(lambda: s.query(query, id=run_id))[0][0])
    began = s.now()
    kill_group(s.process(planner))
    return began


def _deadly_row(s: Stage, turn: int, kind: str) -> float:
    """From `enqueue` to the end of a run of one batch. A row that is doubled, lost or wrong ends the benchmark."""
    job = _job(s, f"{kind}_{turn}", kind, f'{{"{kind}": [{BAD_ROW}]}}')
    with s.workers(1, "cpu"), s.workers(1, "plan"):
        began = s.now()
        with s.run(job) as run_id:
            ended = s.until_final(run_id)
    assert_accounted(s.p.engine, job, {BAD_ROW: "ProcessDied"}, "items")
    return _seconds(began, ended)


def _seconds(began: datetime, ended: datetime) -> float:
    return (ended - began).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
