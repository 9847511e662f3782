"""How far a profile is from its reference, and which differences are too large to be chance.

A difference is reported if it is large, by the limits of the job, and if chance makes one as large rarely: in `CHANCE`
of the comparisons of unchanged data, over all columns and kinds of difference together (Bonferroni's bound).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtrc, chdtrc, kolmogorov, ndtri, pdtrc, rel_entr

from scorebeat.core.jobs.drift_limits import DriftLimits
from scorebeat.drift.finding import Finding
from scorebeat.drift.profile import FEW, MOST_VALUES, SAMPLE, Column, Profile

CHANCE = 0.001
"""The share of comparisons of unchanged data in which anything may be reported."""
BINS = 10
"""Bins of the population stability index: of as many rows each in the reference."""
SHOWN_VALUES = 5

Shares = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class _Pair:
    """One measure, in the reference and now."""

    side: str
    name: str
    before: Column
    now: Column

    @property
    def has_other_type(self) -> bool:
        """Whether nothing of both can be compared, such as a text with a number."""
        return None not in (self.before.kind, self.now.kind) and self.before.kind != self.now.kind

    @property
    def always_moves(self) -> bool:
        """Dates and timestamps move on with every run; only their NULLs are compared."""
        return "timestamp" in (self.before.kind, self.now.kind)

    @property
    def counts(self) -> tuple[dict[str, int], dict[str, int]] | None:
        """Counted values of both, where they are categories; None for numbers."""
        is_category = self.before.kind in ("text", "bool") or self.side == "output"
        if not (is_category and self.before.has_few_values and self.now.has_few_values):
            return None
        return self.before.counts(), self.now.counts()


def compare(before: Profile, now: Profile, limits: DriftLimits) -> list[Finding]:
    """The differences of each measure that both profiles have, the inputs first.

    Raises ValueError if a profile has too few rows (`why_not` has the reason).
    """
    reason = why_not(before, now, limits)
    if reason is not None:
        raise ValueError(reason)
    pairs = _pairs(before, now)
    rare = CHANCE / max(1, 5 * len(pairs))  # at most five kinds of difference each
    return [_compare(pair, limits, rare) for pair in pairs]


def _pairs(before: Profile, now: Profile) -> list[_Pair]:
    return [
        _Pair(side, name, ours[name], theirs[name])
        for side, ours, theirs in (("input", before.inputs, now.inputs), ("output", before.outputs, now.outputs))
        for name in ours
        if name in theirs
    ]


def why_not(before: Profile, now: Profile, limits: DriftLimits) -> str | None:
    """Why these profiles cannot be compared; None if they can."""
    if now.rows < limits.min_rows:
        return f"the sample has {now.rows:,} rows, too few to compare: min_rows = {limits.min_rows:,}"
    if before.rows < limits.min_rows:
        return f"the reference has {before.rows:,} rows, too few to compare: min_rows = {limits.min_rows:,}"
    if not _pairs(before, now):
        return "the reference has none of its inputs and outputs"
    return None


def _compare(pair: _Pair, limits: DriftLimits, rare: float) -> Finding:
    before, now = pair.before, pair.now
    reasons = []
    if abs(now.missing - before.missing) >= limits.missing and _differ(
        before.missing, before.rows, now.missing, now.rows, rare
    ):
        reasons.append(f"{now.missing:.1%} of the rows have no value, {before.missing:.1%} before")
    was_infinite, is_infinite = (column.infinite / max(1, column.rows) for column in (before, now))
    if is_infinite - was_infinite >= limits.outside and _differ(was_infinite, before.rows, is_infinite, now.rows, rare):
        reasons.append(f"{is_infinite:.1%} are infinite, {was_infinite:.1%} before")
    psi = distance = None
    counts = pair.counts
    if pair.has_other_type:
        reasons.append(f"its type is {now.type}, and {before.type} before")
    elif counts is not None and all(counts):
        psi, distance, found = _compare_values(pair, *counts, limits, rare)
        reasons += found
    elif not pair.always_moves and before.numbers.n and now.numbers.n:
        psi, distance, found = _compare_numbers(before, now, limits, rare)
        reasons += [*found, *_many_values(pair, rare)]
    return Finding(
        pair.side,
        pair.name,
        psi,
        distance,
        (before.missing, now.missing),
        (_mean(before), _mean(now)),
        (_median(before), _median(now)),
        tuple(reasons),
    )


def _mean(column: Column) -> float | None:
    return _finite(column.mean) if column.numbers.n and column.kind != "timestamp" else None


def _median(column: Column) -> float | None:
    return next(iter(column.quantiles([0.5])), None) if column.kind != "timestamp" else None


def _finite(number: float) -> float | None:
    """The number; None for what JSON and PostgreSQL cannot store, such as the mean of numbers of 1e308."""
    return number if np.isfinite(number) else None


def _many_values(pair: _Pair, rare: float) -> Iterator[str]:
    """A text that was a category, and is none any more.

    In unchanged data rows with a value that the reference missed are as many as its values that were seen once predict
    (Good and Turing, 1953; one more, as none proves nothing). More than `FEW` values in half of the samples, or more
    than `MOST_VALUES` in all of them together, need more such rows than that by chance.
    """
    before, now = pair.before.counts(), pair.now
    if pair.before.kind != "text" or not before or now.has_few_values:
        return
    missed = (sum(count == 1 for count in before.values()) + 1) / sum(before.values())
    samples = max(1, round(now.rows / SAMPLE))
    crowded = round(samples * now.crowded / now.rows)
    if now.crowded >= now.rows / 2:
        in_one = float(pdtrc(FEW - len(before), now.rows / samples * missed))
        chance = float(bdtrc(crowded - 1, samples, in_one))
    else:
        chance = float(pdtrc(MOST_VALUES - len(before), now.rows * missed))
    if chance < rare:
        yield f"it has more than {FEW} different values, {len(before)} before"


def _differ(before: float, rows_before: int, now: float, rows_now: int, rare: float) -> bool:
    """Whether two shares differ by more than chance (the z test of two proportions)."""
    whole = (before * rows_before + now * rows_now) / (rows_before + rows_now)
    error = np.sqrt(whole * (1 - whole) * (1 / rows_before + 1 / rows_now))
    return bool(error > 0 and abs(now - before) / error > ndtri(1 - rare / 2))


def _psi(before: Iterable[float], now: Iterable[float]) -> tuple[float, float]:
    """The population stability index of counts in the same bins, and the chance of one as large in unchanged data.

    Under no change it is distributed as (1/n + 1/m) times chi-squared with bins - 1 degrees of freedom (Yurdakul,
    "Statistical properties of the population stability index", 2018). Half a row is added to each bin, so that an
    empty one gives no infinity.
    """
    p, q = np.array([*before], dtype=float), np.array([*now], dtype=float)
    sizes = 1 / p.sum() + 1 / q.sum()
    p, q = ((side + 0.5) / (side + 0.5).sum() for side in (p, q))
    psi = float(((q - p) * np.log(q / p)).sum())
    return psi, float(chdtrc(len(p) - 1, psi / sizes))


def _compare_numbers(
    before: Column, now: Column, limits: DriftLimits, rare: float
) -> tuple[float, float | None, list[str]]:
    reasons = []
    n, m = before.numbers.n, now.numbers.n
    # upper ends of the bins but the last, of about as many rows each in the reference; equal ones are one bin
    quantiles = before.quantiles(np.arange(1, BINS) / BINS)
    with np.errstate(over="ignore"):  # there is nothing below the least number of all
        below = float(np.nextafter(before.numbers.get_min_value(), -np.inf))
    edges = sorted({below, *quantiles})
    psi, chance = _psi(
        np.array(before.numbers.get_pmf(edges, True)) * n, np.array(now.numbers.get_pmf(edges, True)) * m
    )
    if psi >= limits.psi and chance < rare:
        reasons.append(f"PSI {psi:.2f}, limit {limits.psi:g}")
    points, ours, theirs = _cumulative(before, now)
    # the first Wasserstein distance of one dimension: the area between the cumulative shares
    with np.errstate(over="ignore", invalid="ignore"):
        area = float((np.abs(ours - theirs)[:-1] * np.diff(points)).sum())
    distance = _finite(area / before.deviation if before.deviation > 0 else float(area > 0))
    if (
        distance is not None
        and distance >= limits.distance
        and _is_no_chance(before, now, float(np.abs(ours - theirs).max()), rare)
    ):
        reasons.append(f"moved by {distance:.2f} standard deviations, limit {limits.distance:g}")
    low, high = before.numbers.get_min_value(), before.numbers.get_max_value()
    outside = now.numbers.get_rank(low, False) + 1 - now.numbers.get_rank(high, True)
    if outside >= limits.outside and _differ(0.0, n, outside, m, rare):
        reasons.append(f"{outside:.1%} are outside of {low:g} to {high:g}, the range of the reference")
    return psi, distance, reasons


def _cumulative(before: Column, now: Column) -> tuple[Shares, Shares, Shares]:
    """The numbers that the sketches kept, and the shares of rows up to each, in the reference and now."""
    points = np.array(sorted({value for column in (before, now) for value, _ in column.numbers}))
    ours, theirs = (np.array(column.numbers.get_cdf(points, True))[:-1] for column in (before, now))
    return points, ours, theirs


def _is_no_chance(before: Column, now: Column, largest: float, rare: float) -> bool:
    """Whether the largest difference of the cumulative shares is more than chance (Kolmogorov and Smirnov).

    The error of the sketches is taken off.
    """
    unsure = sum(c.numbers.normalized_rank_error(False) for c in (before, now) if c.numbers.is_estimation_mode())
    n, m = before.numbers.n, now.numbers.n
    return bool(kolmogorov(max(0.0, largest - unsure) * np.sqrt(n * m / (n + m))) < rare)


def _compare_values(
    pair: _Pair, before: Mapping[str, int], now: Mapping[str, int], limits: DriftLimits, rare: float
) -> tuple[float, float, list[str]]:
    reasons = []
    labels = [*before, *(label for label in now if label not in before)]
    p, q = (np.array([side.get(label, 0) for label in labels], dtype=float) for side in (before, now))
    n, m = p.sum(), q.sum()
    psi, chance = _psi(p, q) if len(labels) > 1 else (0.0, 1.0)
    if psi >= limits.psi and chance < rare:
        reasons.append(f"PSI {psi:.2f}, limit {limits.psi:g}")
    middle = (p / n + q / m) / 2
    distance = float(np.sqrt((rel_entr(p / n, middle) + rel_entr(q / m, middle)).sum() / np.log(4)))
    if distance >= limits.distance and chance < rare:
        reasons.append(f"Jensen-Shannon distance {distance:.2f}, limit {limits.distance:g}")
    new = [label for label in labels if label not in before]
    share = sum(now[label] for label in new) / m
    # values that the reference has once show how many rows have one that it missed by chance (Good and Turing, 1953)
    missed = float((p == 1).sum() / n)
    if share >= limits.new and share > missed and _differ(missed, int(n), share, int(m), rare):
        shown = ", ".join(pair.now.name(label) or "the empty text" for label in new[:SHOWN_VALUES])
        reasons.append(f"{share:.1%} have values that the reference does not have: {shown}")
    if pair.side == "output":
        for label, was, is_now in zip(labels, p / n, q / m, strict=True):
            if abs(is_now - was) >= limits.labels and _differ(was, int(n), is_now, int(m), rare / len(labels)):
                name = pair.now.name(pair.before.name(label))
                reasons.append(f"{name} is {is_now:.1%} of the predictions, {was:.1%} before")
    return psi, distance, reasons
