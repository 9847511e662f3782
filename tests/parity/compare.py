"""A reader's predictions beside the library's: every row, every column, and the rows that the library refuses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.parity.case import Built, Expected
from tests.parity.system import Scored

FLOAT64, FLOAT32 = 1e-9, 1e-5
SHOWN = 3
"""Rows of each kind of difference."""


def differences(scored: Scored, built: Built) -> list[str]:
    """In sentences; none if the predictions are the library's, and what it refuses is quarantined with its words."""
    parts, refused = by_library(built.predict, built.frame)
    if not parts:
        return [f"the library refuses every row, which proves nothing: {refused[0]}"]
    found = _quarantine(scored.quarantined, refused)
    found += _rows(scored, len(built.frame), "partial" if refused else "succeeded")
    for start, expected in parts:
        if set(scored.columns) != set(expected):
            return [*found, f"the columns are {scored.columns}; right: {tuple(expected)}"]
        for name, values in expected.items():
            ours = {start + i: scored.predictions.get(start + i, {}).get(name) for i in range(len(values))}
            found += _column(name, ours, np.asarray(values))
    return found


def by_library(
    predict: Callable[[Any], Expected], frame: Any, start: int = 0
) -> tuple[list[tuple[int, Expected]], dict[int, str]]:
    """The library's predictions, for as many rows at a time as it takes, and its error for each row that it refuses."""
    try:
        return [(start, predict(frame))], {}
    except Exception as error:  # noqa: BLE001 -- a library may refuse a row in any way
        if len(frame) == 1:
            return [], {start: str(error)}
    middle = len(frame) // 2
    first, refused_first = by_library(predict, frame.iloc[:middle], start)
    second, refused_second = by_library(predict, frame.iloc[middle:], start + middle)
    return first + second, refused_first | refused_second


def _quarantine(quarantined: Mapping[int, str], refused: Mapping[int, str]) -> list[str]:
    """Rows that were quarantined and should not have been, or should have been and were not, or for another reason."""
    pairs = {
        row: (quarantined.get(row, "it was scored"), refused.get(row, "the library predicts it"))
        for row in sorted({*quarantined, *refused})
    }
    wrong = [
        f"row {row} is quarantined: {ours}; right: {theirs}"
        for row, (ours, theirs) in pairs.items()
        if _core(theirs) not in " ".join(ours.split())
    ]
    return _some("rows quarantined wrongly", len(pairs), wrong)


def _core(words: str) -> str:
    """The beginning of an error, without line breaks."""
    return " ".join(words.split("\n", maxsplit=1)[0].split())[:100]


def _rows(scored: Scored, count: int, state: str) -> list[str]:
    accounted = [*scored.predictions, *scored.quarantined]
    found = [f"the run {scored.state}; right: {state}"] * (scored.state != state)
    if sorted(accounted) != list(range(count)):
        found.append(f"{len(accounted)} rows are accounted for, {len(set(accounted))} of them once; right: {count}")
    return found


def _column(name: str, ours: Mapping[int, Any], theirs: Any) -> list[str]:
    """One output of consecutive rows: of the same Python type, and equal."""
    tolerance = FLOAT32 if theirs.dtype.itemsize < 8 else FLOAT64
    wrong = [
        f"row {row}: {one!r}; right: {right!r}"
        for (row, one), right in zip(ours.items(), theirs.tolist(), strict=True)
        if type(one) is not type(right) or not _equal(one, right, tolerance)
    ]
    return _some(f"values of {name}", len(theirs), wrong)


def _equal(one: Any, right: Any, tolerance: float) -> bool:
    if isinstance(right, list):
        return len(one) == len(right) and bool(np.allclose(one, right, tolerance, tolerance, equal_nan=True))
    if isinstance(right, float):
        return bool(np.isclose(one, right, tolerance, tolerance, equal_nan=True))
    return bool(one == right)


def _some(what: str, count: int, wrong: Sequence[str]) -> list[str]:
    return [f"{len(wrong)} of {count} {what} differ: {' | '.join(wrong[:SHOWN])}"] if wrong else []
