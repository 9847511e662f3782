"""A chart as marks at positions in percent, which a template draws as SVG, and the same figures as a table.

Positions in percent need no script and no font of a fixed size: the drawing is as wide as the window, and its texts are
those of the page around it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COLOURS = 8
"""Series beyond so many share a colour with an earlier one; the table tells them apart."""


@dataclass(frozen=True)
class Mark:
    """A rectangle; positions and sizes in percent, from the upper left corner."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    """What it stands for, which is its colour."""
    title: str
    """What a pointer that rests on it shows."""


@dataclass(frozen=True)
class Stroke:
    """A line."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Row:
    """A row of the table beside the chart."""

    cells: tuple[str, ...]
    run: int | None = None
    """The run that its first cell names."""


@dataclass(frozen=True)
class Chart:
    name: str
    """Unique in the page."""
    title: str
    summary: str
    """The drawing in one sentence, for those who do not see it."""
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    dots: tuple[Mark, ...] = ()
    """Only x and y count."""
    highest: str = ""
    """What the upper edge stands for."""
    ends: tuple[str, str] = ("", "")
    """What the left and the right end stand for."""
    legend: tuple[tuple[str, str], ...] = field(default=())
    """Pairs of kind and meaning."""


@dataclass(frozen=True)
class Bar:
    """One bar: its parts from below, each a kind and a size."""

    title: str
    parts: tuple[tuple[str, float], ...]
    limit: float | None = None
    """A line across the bar at this size."""


def bars(found: Sequence[Bar]) -> tuple[tuple[Mark, ...], tuple[Stroke, ...], float]:
    """Bars side by side, and the size that fills the whole height: that of the highest bar or limit."""
    tops = [sum(size for _, size in bar.parts) for bar in found]
    highest = max([*tops, *(bar.limit for bar in found if bar.limit is not None)], default=0.0) or 1.0
    step = 100.0 / max(1, len(found))
    marks, strokes = [], []
    for at, bar in enumerate(found):
        left, below = at * step, 0.0
        for kind, size in bar.parts:
            height = 100.0 * size / highest
            below += height
            marks.append(Mark(left + 0.1 * step, 100.0 - below, 0.8 * step, height, kind, bar.title))
        if bar.limit is not None:
            level = 100.0 - 100.0 * bar.limit / highest
            strokes.append(Stroke(left, level, left + step, level, "limit"))
    return tuple(marks), tuple(strokes), highest


@dataclass(frozen=True)
class Series:
    """Numbers over the positions of a chart; None if a position has no number."""

    name: str
    kind: str
    values: tuple[float | None, ...]


def lines(
    found: Sequence[Series], names: Sequence[str], low: float, high: float
) -> tuple[tuple[Mark, ...], tuple[Stroke, ...]]:
    """A dot for each number and lines between neighbours, for values from `low` to `high`.

    `names` are those of the positions.
    """
    # halves, because the span of -1e308 to 1e308 is no float
    step, half_span = 100.0 / max(1, len(names)), (high / 2 - low / 2) or 1.0
    dots, strokes = [], []
    for series in found:
        before: Mark | None = None
        for at, value in enumerate(series.values):
            if value is None:
                continue
            level = 100.0 - 100.0 * ((value / 2 - low / 2) / half_span)
            dot = Mark((at + 0.5) * step, level, 0, 0, series.kind, f"{names[at]}: {series.name} {value:.4g}")
            if before is not None:
                strokes.append(Stroke(before.x, before.y, dot.x, dot.y, series.kind))
            dots.append(dot)
            before = dot
    return tuple(dots), tuple(strokes)


def colours(names: Iterable[str]) -> dict[str, str]:
    """A kind for each series, in their order."""
    return {name: f"series-{at % COLOURS}" for at, name in enumerate(names)}
