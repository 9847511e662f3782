"""The control tick: one round of everything that keeps the ledger moving."""

from dataclasses import dataclass

from db import workers
from producer.context import Producer
from producer.dispatch import dispatch_all
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
    """Rescue, settle, dispatch and make up for missed ticks once; safe at any time, also twice at once."""
    with p.engine.begin() as connection:
        workers.forget(connection)
    return Round(rescued=rescue(p), settled=settle_all(p), dispatched=dispatch_all(p), made_up=make_up(p))
