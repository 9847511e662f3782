"""The control tick: one round of everything that keeps the ledger moving."""

from dataclasses import dataclass

from core.celery_app import CONTROL_EVERY, NOTIFY
from db import workers
from producer import notify
from producer.context import Producer
from producer.dispatch import dispatch_all
from producer.messages import send
from producer.rescue import rescue
from producer.settle import settle_all
from producer.tick import make_up


@dataclass(frozen=True)
class Round:
    """What one control tick did."""

    rescued: int
    settled: int
    dispatched: int
    made_up: int


def run_once(p: Producer) -> Round:
    """Rescue, settle, dispatch, make up for missed ticks and note ends once; safe at any time, also twice at once."""
    with p.engine.begin() as connection:
        workers.forget(connection)
    done = Round(rescued=rescue(p), settled=settle_all(p), dispatched=dispatch_all(p), made_up=make_up(p))
    if notify.note_ends(p):
        # posted elsewhere: a slow receiver must not hold up dispatch. Void when the next round sends another
        send(p.app, NOTIFY, [], expires=2 * CONTROL_EVERY.total_seconds())
    return done
