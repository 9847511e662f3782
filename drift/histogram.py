"""Two profiles of one measure in the same bins, for a drawing."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from scorebeat.drift.profile import Column

BINS = 20
"""Bins of equal width between the percentiles `ENDS` of both; what is outside has a bin at each end."""
ENDS = (0.01, 0.99)
MOST_VALUES = 15
"""Values of a category that are drawn one by one, the most frequent first; the others are one bin."""


@dataclass(frozen=True)
class Bin:
    """The share of rows of one interval or value, from 0 to 1, of the rows that have a value."""

    name: str
    before: float
    now: float


@dataclass(frozen=True)
class Histogram:
    bins: tuple[Bin, ...]
    measures: str
    """What the bins are of: `values`, `lengths in characters` or the like."""


def histogram(before: Column, now: Column) -> Histogram | None:
    """Both in the same bins; None if one has no value, or their types cannot be compared."""
    if before.kind != now.kind:
        return None
    ours, theirs = before.counts(), now.counts()
    # many different numbers are seen better in bins
    if ours and theirs and (before.kind != "number" or len({*ours, *theirs}) <= MOST_VALUES):
        return _of_values(before, now, ours, theirs)
    if not before.numbers.n or not now.numbers.n:
        return None
    measures = {"text": "lengths in characters", "bytes": "lengths in bytes", "time": "seconds"}.get(
        before.kind or "", "values"
    )
    return Histogram(tuple(_of_numbers(before, now)), measures)


def _of_values(before: Column, now: Column, ours: dict[str, int], theirs: dict[str, int]) -> Histogram:
    """Numbers in their order, other values the most frequent first."""
    n, m = sum(ours.values()), sum(theirs.values())
    labels = sorted({*ours, *theirs}, key=lambda label: -(ours.get(label, 0) / n + theirs.get(label, 0) / m))
    shown, others = labels[:MOST_VALUES], labels[MOST_VALUES:]
    if before.kind == "number":
        shown.sort(key=lambda label: (label == "nan", float(label)))  # not a number, so it has no order
    bins = [
        Bin(now.name(before.name(label)) or "the empty text", ours.get(label, 0) / n, theirs.get(label, 0) / m)
        for label in shown
    ]
    if others:
        rest = (sum(side.get(label, 0) for label in others) for side in (ours, theirs))
        bins.append(Bin(f"{len(others)} other values", next(rest) / n, next(rest) / m))
    return Histogram(tuple(bins), "values")


def _of_numbers(before: Column, now: Column) -> list[Bin]:
    ends = [*before.quantiles(ENDS), *now.quantiles(ENDS)]
    low, high = min(ends), max(ends)
    steps = np.linspace(0, 1, BINS + 1)
    # not low + (high - low) * steps: of numbers of 1e308 the difference is infinite
    edges = sorted({float(edge) for edge in low * (1 - steps) + high * steps})
    shares = [np.diff([0.0, *column.numbers.get_cdf(edges, True)]) for column in (before, now)]
    name = _timestamp if before.kind == "timestamp" else "{:.4g}".format
    names = [
        f"up to {name(edges[0])}",
        *(f"{name(lower)} to {name(upper)}" for lower, upper in pairwise(edges)),
        f"above {name(edges[-1])}",
    ]
    return [Bin(*one) for one in zip(names, *(each.tolist() for each in shares), strict=True)]


def _timestamp(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.4g} s after 1970"
