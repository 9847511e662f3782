"""Numbers, timestamps and durations as the pages show them."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tornado.escape import xhtml_escape

from scorebeat.core.prices.price_list import money as money  # noqa: PLC0414 -- for the templates
from scorebeat.core.states import RunState
from scorebeat.core.text.directions import visible
from scorebeat.core.text.durations import from_now, in_two_units
from scorebeat.db.ledger.failures.failure_groups import DEAD, QUARANTINED

NOTHING = "\N{EN DASH}"


def escaped(value: str | bytes) -> str:
    """How templates write every value: `visible`, and markup as text.

    An element with `<bdi>` does not hold direction controls: U+2069 in it ends its isolation.
    """
    return visible(xhtml_escape(value))


def count(number: float | None) -> str:
    """`1,204`; a dash for None."""
    return NOTHING if number is None else f"{number:,.0f}"


def number(value: float | None) -> str:
    """`0.4`, `1204`, `1.204e+06`; a dash for None."""
    return NOTHING if value is None else f"{value:.4g}"


def percent(part: float) -> str:
    """`0.4 %` of a share of 0.004."""
    return f"{100 * part:.1f} %"


def speed(rows_a_second: float | None) -> str:
    """`0.4`, `12`, `1,204` rows a second; a dash for None or 0."""
    if not rows_a_second:
        return NOTHING
    return f"{rows_a_second:,.0f}" if rows_a_second >= 10 else f"{rows_a_second:.1f}"


def duration(value: timedelta | float | None) -> str:
    """`40 ms`, `1.4 s`, `12 s`, `3 min 5 s`; a dash for None."""
    if value is None:
        return NOTHING
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else in_two_units(seconds)


def timestamp(at: datetime | None) -> str:
    """`2026-11-22 00:23:11`, in UTC; a dash for None."""
    return NOTHING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def between(earliest: datetime, latest: datetime) -> str:
    """`00:23:11 and 00:40:02`, in UTC, with the day of the second if it is another."""
    first, last = earliest.astimezone(UTC), latest.astimezone(UTC)
    return f"{first:%H:%M:%S} and " + (f"{last:%H:%M:%S}" if first.date() == last.date() else timestamp(last))


def away(at: datetime, now: datetime) -> str:
    """`in 3 h`, `5 min ago`."""
    return from_now(at - now)


def machine(at: datetime) -> str:
    """ISO 8601, for the `datetime` attribute of a `<time>`."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def share(part: float, whole: float) -> float:
    """`part` of `whole` in percent, 0 to 100; 0 of nothing."""
    return min(100.0, 100.0 * part / whole) if whole else 0.0


def key(parts: list[Any]) -> str:
    """A key of one column or several, on one line."""
    return ", ".join("NULL" if part is None else str(part) for part in parts)


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 batch`, `1,204 batches`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def failed(kind: str, number: int) -> str:
    """`1 dead batch`, `1,204 quarantined rows`."""
    return plural(number, {DEAD: "dead batch", QUARANTINED: "quarantined row"}[kind], kind)


def fields(**values: str | int | None) -> str:
    """The fields of an action as JSON, which the page's script reads from a button."""
    return json.dumps({name: str(value) for name, value in values.items() if value is not None})


def details(recorded: dict[str, Any]) -> str:
    """The details of a recorded action: `batches 2, reason by hand`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recorded.items() if value is not None)


def light_word(light: str) -> str:
    """The word of a morning's light: whether what readers see is right."""
    return {"bad": "no", "look": "look", "good": "yes"}.get(light, "new")


def light_class(light: str) -> str:
    """Flower's class for a badge of that light."""
    return {"bad": "text-bg-danger", "look": "text-bg-warning", "good": "text-bg-success"}.get(
        light, "text-bg-secondary"
    )


def runs_in_words(runs: Sequence[tuple[int, RunState]]) -> str:
    """`the last 3 runs: 2 succeeded, 1 failed; the newest, run 7, failed`, for a drawing of them."""
    counted = Counter(state.value for _, state in runs)
    newest, state = runs[-1]
    states = ", ".join(f"{count} {name}" for name, count in counted.items())
    return f"the last {plural(len(runs), 'run')}: {states}; the newest, run {newest}, {state.value}"
