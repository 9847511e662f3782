"""Which batches of a run are looked at: all of a short run, and of a long one each second, fourth, eighth …

A worker knows the number of its batch and not how many the run will have, since the plan goes on meanwhile. So it looks
at each batch of the first ones, and at fewer the further it comes. Whoever merges knows how many there are, and leaves
out of the first ones what the last ones left out. What is kept is a systematic sample: each row had the same chance.
"""

from scorebeat.drift.profile import SAMPLE

ENOUGH_ROWS = 32_000
"""A long run keeps at least half as many: chance moves a rank of theirs by about a percent, as their sketch does."""


def step(number: int, batch_rows: int) -> int:
    """The batches of a run that are looked at are each `step`-th, if it has `number` ones; a power of two.

    `batch_rows` are the rows of a full batch. Of such steps each divides those of higher numbers, so a batch that
    is kept at the end was looked at when it was scored.
    """
    all_of = max(1, ENOUGH_ROWS // min(SAMPLE, batch_rows))
    return 1 << max(0, (number - 1) // all_of).bit_length()


def is_looked_at(number: int, batch_rows: int) -> bool:
    """Whether the worker looks at the batch with this number; the first is 1."""
    return number % step(number, batch_rows) == 0
