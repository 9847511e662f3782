"""The control tick: one round of everything that keeps the ledger moving."""

from collections.abc import Callable
from dataclasses import dataclass

from scorebeat.broker.app import CONTROL_EVERY
from scorebeat.broker.send import send
from scorebeat.core.events import emit
from scorebeat.core.queues import NOTIFY
from scorebeat.db.processes import clock, workers
from scorebeat.producer.context import Producer
from scorebeat.producer.control import notify
from scorebeat.producer.control.overdue import note_overdue
from scorebeat.producer.control.rescue import rescue
from scorebeat.producer.control.settle import settle_all
from scorebeat.producer.control.tick import begin_again, make_up
from scorebeat.producer.dispatch import dispatch_all
from scorebeat.producer.keep_going import apart


@dataclass(frozen=True)
class Round:
    """What one control tick did."""

    rescued: int
    settled: int
    dispatched: int
    made_up: int
    begun_again: int
    """Runs for due times whose run could not begin before."""


def run_once(p: Producer) -> Round:
    """Rescue, settle, dispatch, make up for missed ticks and note ends once; safe at any time, also twice at once.

    A part that fails is one event, and stops no other part; the next round tries it again.
    """
    _do("clock", _bring_back, p)
    _do("forget", _forget, p)
    done = Round(
        rescued=_do("rescue", rescue, p),
        settled=_do("settle", settle_all, p),
        dispatched=_do("dispatch", dispatch_all, p),
        made_up=_do("make_up", make_up, p),
        begun_again=_do("begin_again", begin_again, p),
    )
    _do("overdue", note_overdue, p)
    _do("notify", _notify, p)
    return done


def _do(name: str, part: Callable[[Producer], int], p: Producer) -> int:
    """What the part did; 0 when it failed."""
    with apart(name):
        return part(p)
    return 0


def _bring_back(p: Producer) -> int:
    """Before all else: what lies ahead by mistake would not be looked at."""
    with p.engine.begin() as connection:
        found = clock.bring_back(connection, p.settings.claim_ttl, p.settings.backoff_cap)
    if found:
        emit("clock.went_back", moved=found)
    return len(found)


def _forget(p: Producer) -> int:
    with p.engine.begin() as connection:
        return workers.forget(connection)


def _notify(p: Producer) -> int:
    if not notify.note_ends(p):
        return 0
    # posted elsewhere: a slow receiver must not hold up dispatch. Void when the next round sends another
    return send(p.app, NOTIFY, [], expires=2 * CONTROL_EVERY.total_seconds())
