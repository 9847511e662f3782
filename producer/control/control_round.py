"""The control tick: one round of everything that moves work through the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scorebeat.broker.app import CONTROL_EVERY
from scorebeat.broker.send import send
from scorebeat.core.events import emit
from scorebeat.core.queues import FOLLOW, KEYS, NOTIFY, QUALITY
from scorebeat.db.processes import clock, workers
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.ticks.late_expected import note_late_expected
from scorebeat.producer.control.ticks.overdue import note_overdue
from scorebeat.producer.control.ticks.tick import begin_again, make_up
from scorebeat.producer.control.upkeep import canaries, follow_deletes, profiles, quality, snapshots
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.control.upkeep.settle import keys_are_due, settle_all
from scorebeat.producer.dispatch import dispatch_all
from scorebeat.producer.keep_going import log_failure


@dataclass(frozen=True)
class Round:
    """The counts of one control tick."""

    rescued: int
    settled: int
    dispatched: int
    made_up: int
    begun_again: int
    """Runs of due times whose first run could not begin."""


def run_once(p: Producer) -> Round:
    """Rescue, settle, dispatch, make up for missed ticks, note ends and drop old snapshots once.

    Safe at any time, also twice in parallel. A part that fails is one event, and stops no other part; the next round
    retries it.
    """
    _run_part("clock", _correct_timestamps, p)
    _run_part("forget", _forget_workers, p)
    done = Round(
        rescued=_run_part("rescue", rescue, p),
        settled=_run_part("settle", settle_all, p),
        dispatched=_run_part("dispatch", dispatch_all, p),
        made_up=_run_part("make_up", make_up, p),
        begun_again=_run_part("begin_again", begin_again, p),
    )
    _run_part("overdue", note_overdue, p)
    _run_part("late_expected", note_late_expected, p)
    # other tasks do what takes long: a slow receiver, or a key of a large table, must not delay dispatch
    _run_part("notify", partial(_send_if_due, notify.note_ends, NOTIFY), p)
    _run_part("snapshots", snapshots.drop_unneeded, p)
    _run_part("keys", partial(_send_if_due, keys_are_due, KEYS), p)
    _run_part("profiles", profiles.merge_all, p)
    _run_part("canaries", canaries.run_once, p)
    _run_part("follow_deletes", partial(_send_if_due, follow_deletes.is_due, FOLLOW), p)
    _run_part("quality", partial(_send_if_due, quality.is_due, QUALITY), p)
    return done


def _run_part(name: str, part: Callable[[Producer], int], p: Producer) -> int:
    """The part's count; 0 if it failed."""
    with log_failure(name):
        return part(p)
    return 0


def _correct_timestamps(p: Producer) -> int:
    """First, correct timestamps that lie in the future because a clock went back: nothing would look at them."""
    with p.engine.begin() as connection:
        found = clock.bring_back(connection, p.settings.claim_ttl, p.settings.backoff_cap)
    if found:
        emit("clock.went_back", moved=found)
    return len(found)


def _forget_workers(p: Producer) -> int:
    with p.engine.begin() as connection:
        return workers.forget(connection)


def _send_if_due(is_due: Callable[[Producer], bool], task: str, p: Producer) -> int:
    """Send a message of the task if it has work. The message expires when the next rounds send another.

    While a process does the work, a task that is sent for the same finds that, and does nothing.
    """
    return send(p.app, task, [], expires=2 * CONTROL_EVERY.total_seconds()) if is_due(p) else 0
