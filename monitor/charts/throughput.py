"""The chart of a run's throughput: the position of each bar, in percent of the drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scorebeat.db.reports.pages.run_pages import Point


@dataclass(frozen=True)
class Interval:
    """The bar of one interval of the run's time."""

    at: datetime
    rows_a_second: float
    left: float
    width: float
    height: float
    """0 to 100, as `left` and `width`."""


@dataclass(frozen=True)
class Throughput:
    bars: list[Interval]
    highest: float
    """Rows a second of the highest bar; 0 when nothing was committed yet."""


def draw(points: Sequence[Point]) -> Throughput:
    """A bar for each interval of the run's time."""
    highest = max((point.rows_a_second for point in points), default=0.0)
    step = 100.0 / max(1, len(points))
    bars = [
        Interval(point.at, point.rows_a_second, i * step, step * 0.8, 100.0 * point.rows_a_second / (highest or 1.0))
        for i, point in enumerate(points)
    ]
    return Throughput(bars, highest)
