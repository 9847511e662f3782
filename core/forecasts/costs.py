"""What a row costs: seconds of a process, from the batches of a run so far and from earlier runs of its job."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

FEWEST = 8
"""Parts of a run from which a trend is computed."""
CERTAIN = 2.576
"""Standard deviations of a trend that is taken for one: by chance 1 of 100 steady runs would seem to have it."""
LEAST_SPREAD = 0.03
"""No forecast is more certain than this share of it."""
UNSEEN = 0.25
"""How much dearer or cheaper the rows of a run may be that it has not come to, beside what they show so far."""
ONE_RUN = 0.25
"""The same for the costs of a single earlier run."""
OWN_FROM = 1 / 3
"""The share of its rows from which a run is forecast from its own batches alone."""


@dataclass(frozen=True)
class Range:
    """What is likely, and the bounds between which it is expected."""

    least: float
    likely: float
    most: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.least + other.least, self.likely + other.likely, self.most + other.most)

    def times(self, factor: float) -> "Range":
        return Range(self.least * factor, self.likely * factor, self.most * factor)

    def less(self, amount: float) -> "Range":
        """So much less, and never below 0."""
        return Range(*(max(0.0, value - amount) for value in (self.least, self.likely, self.most)))


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Part:
    """Some batches, or a whole run: rows, and the seconds in which a process had them."""

    rows: int
    seconds: float

    @property
    def cost(self) -> float:
        return self.seconds / self.rows


def of_run(parts: Sequence[Part], rows_left: float) -> Range:
    """Seconds a row over the rows that are left, from the parts of the run so far, the oldest first.

    The level is a mean in which a part weighs half as much as one that came a sixth of the run later (exponential
    smoothing). If rows become dearer or cheaper as the run goes on, the trend is the median of the slopes between all
    pairs of parts (Theil 1950, Sen 1968), which a few odd batches do not move. It counts if Sen's interval around it
    does not contain 0. It is extended over as many rows as it was seen over; then the cost stays, as in a damped
    trend (Gardner and McKenzie 1985). The bounds are those of the level without a trend and of the trend at both ends
    of its interval, wider by the median of the parts' deviations, and the wider, the less of the run is seen.
    """
    done = sum(part.rows for part in parts)
    spread = max(LEAST_SPREAD, UNSEEN * rows_left / (done + rows_left))
    if len(parts) < FEWEST:
        costs = [part.cost for part in parts]
        return _at_least_apart(Range(min(costs), sum(part.seconds for part in parts) / done, max(costs)), spread)
    at, before = [], 0
    for part in parts:
        at.append(before + part.rows / 2)
        before += part.rows
    slope = _trend(at, [part.cost for part in parts])
    half_life = max(2.0, len(parts) / 6)
    weights = [part.rows * 2 ** (-(len(parts) - 1 - i) / half_life) for i, part in enumerate(parts)]
    moved = [part.cost + slope.likely * (done - x) for x, part in zip(at, parts, strict=True)]  # along the trend
    level = sum(weight * cost for weight, cost in zip(weights, moved, strict=True)) / sum(weights)
    apart = median(abs(cost - level) for cost in moved)

    # the mean distance from now of the rows that are left, none of which counts more than the rows seen so far
    onward = rows_left / 2 if rows_left <= done else (done * done / 2 + done * (rows_left - done)) / rows_left
    lowest = min(part.cost for part in parts) / 2
    ends = [level, *(level + one * onward for one in (slope.least, slope.likely, slope.most))]
    likely = max(lowest, level + slope.likely * onward)
    found = Range(max(lowest, min(ends) - apart), likely, max(likely, max(ends) + apart))
    return _at_least_apart(found, spread)


def of_history(runs: Sequence[Part]) -> Range | None:
    """Seconds a row of earlier runs: their median and their outer tenths, weighted by rows; None without any."""
    known = sorted((run for run in runs if run.rows), key=lambda run: run.cost)
    if not known:
        return None
    whole = sum(run.rows for run in known)

    def quantile(share: float) -> float:
        reached = 0
        for run in known:
            reached += run.rows
            if reached >= share * whole:
                return run.cost
        return known[-1].cost

    found = Range(quantile(0.1), quantile(0.5), quantile(0.9))
    return _at_least_apart(found, ONE_RUN if len(known) == 1 else 2 * LEAST_SPREAD)


def blend(own: Range | None, history: Range | None, share_done: float) -> Range | None:
    """A run's own cost and that of earlier runs: the own one counts the more, the more of the run is done."""
    if own is None or history is None:
        return own or history
    weight = min(1.0, share_done / OWN_FROM)
    return own.times(weight) + history.times(1 - weight)


def _trend(at: Sequence[float], costs: Sequence[float]) -> Range:
    """The slope, and the interval around it; 0 where the interval contains 0."""
    pairs = combinations(zip(at, costs, strict=True), 2)
    slopes = sorted((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairs)
    n = len(costs)
    reach = CERTAIN * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)  # of Kendall's statistic
    low = slopes[max(0, int((len(slopes) - reach) / 2))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))]
    return NOTHING if low <= 0 <= high else Range(low, median(slopes), high)


def _at_least_apart(found: Range, share: float) -> Range:
    return Range(
        min(found.least, found.likely * (1 - share)), found.likely, max(found.most, found.likely * (1 + share))
    )
