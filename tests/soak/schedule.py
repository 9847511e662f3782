"""Which fault comes when: drawn from the seed alone, whatever the faults before it found to choose from."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Planned:
    """One fault to come."""

    name: str
    pause: float
    """Seconds since the fault before."""
    random: random.Random
    """For what the fault itself draws: processes by their position in order, as their ids are never the same."""


def planned(seed: int, names: Sequence[str], every: float) -> Iterator[Planned]:
    """Faults without end, about `every` seconds apart; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield Planned(rng.choice(names), every * rng.uniform(0.5, 1.5), random.Random(rng.getrandbits(64)))
