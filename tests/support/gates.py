"""Gates: steps in the database at which a test holds up a commit, a claim or a plan, and sees who waits there."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import text

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
from tests.support.system import System, assert_scored_once


class Step(IntEnum):
    """Classes of advisory locks; who comes to a step takes the lock of the step and of what it writes."""

    RUN_OPENED = 50
    BATCH_PLANNED = 51
    BATCH_CLAIMED = 52
    ROWS_COPIED = 53
    BATCH_DONE = 54
    """The predictions are in the table, and nothing is committed."""


_FUNCTION = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
DECLARE what text := TG_TABLE_NAME;
BEGIN
    IF what = 'batches' THEN
        what := (SELECT job FROM scorebeat.runs WHERE id = NEW.run_id) || ' ' || NEW.number;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::int, hashtext(what));
    RETURN NEW;
END $$
"""
_TRIGGER = "CREATE TRIGGER gate_{step:d} BEFORE {event} FOR EACH {each} EXECUTE FUNCTION public.gate({step:d})"
_LEDGER = (
    (Step.RUN_OPENED, "INSERT ON scorebeat.runs", "ROW"),
    (Step.BATCH_PLANNED, "INSERT ON scorebeat.batches", "ROW"),
    (Step.BATCH_CLAIMED, "UPDATE OF attempt ON scorebeat.batches", "ROW"),
    (Step.BATCH_DONE, "UPDATE OF rows_scored ON scorebeat.batches", "ROW"),
)


def build_gates(system: System) -> None:
    """Every step of the ledger gets its gates, all open."""
    system.execute(_FUNCTION)
    for step, event, each in _LEDGER:
        system.execute(_TRIGGER.format(step=step, event=event, each=each))


@dataclass(frozen=True)
class Gate:
    """A gate at one step: for a batch, as `job number`, or for all writes into a table."""

    system: System
    step: Step
    what: str

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Everybody who comes waits until the block is left, or the database is restarted."""
        with self.system.engine.connect() as connection:
            connection.detach()  # its session, and the lock with it, ends with the block
            connection.execute(text("SELECT pg_advisory_lock(:step, hashtext(:what))"), self._lock)
            connection.commit()
            yield

    def backend(self, instead_of: int = 0) -> int:
        """Wait until somebody waits at the gate; returns the process id of his backend."""
        statement = (
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid <> :other"
            " AND classid::bigint = :step AND objid::bigint = hashtext(:what)::bigint & 4294967295"
        )
        return int(wait_for(lambda: self.system.query(statement, other=instead_of, **self._lock))[0][0])

    @property
    def _lock(self) -> dict[str, int | str]:
        return {"step": int(self.step), "what": self.what}


def of_batch(system: System, step: Step, job: Job, number: int = 1) -> Gate:
    """The gate for one batch of the job's runs."""
    return Gate(system, step, f"{job.name} {number}")


def of_copy(system: System, job: Job) -> Gate:
    """A gate for all predictions of the job's set: a COPY has begun, and no row of it is there."""
    ((table,),) = system.query("SELECT table_name FROM scorebeat.prediction_sets WHERE job = :job", job=job.name)
    event = f"INSERT ON predictions.{table}"
    system.execute(_TRIGGER.format(step=Step.ROWS_COPIED, event=event, each="STATEMENT"))
    return Gate(system, Step.ROWS_COPIED, table)


def has_backend(system: System, pid: int) -> bool:
    return bool(system.query("SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=pid))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process, or group of processes by a negative number, is stopped with all that it holds."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def others_go_on(system: System, bystander: Job, fetches: int = 1) -> None:
    """The run of a gated job, whose messages are lost while so many of its fetches run, is closed within 9 s.

    Control sends them again, unless it waits for a lock that others keep: it does so for 10 s.
    """
    with system.closed_gate():
        run = system.enqueue(bystander)
        system.at_the_gate(fetches)
        system.until_planned(run)
        assert len(system.batches(run)) == 4
        system.flush_broker()
    assert system.until_finished(run, within=9) is RunState.SUCCEEDED
    assert_scored_once(system, bystander)
