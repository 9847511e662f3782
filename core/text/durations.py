"""Durations as people write them, `90s`, `45m`, `2h`, `1 day`, and as messages show them, `2 h 10 min`."""

import re
from datetime import timedelta

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST = timedelta(days=3660)
_WORDS = {"s": "s|seconds?", "m": "m|minutes?", "h": "h|hours?", "d": "d|days?"}
_DURATION = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,6}})?)\s*({'|'.join(_WORDS.values())})", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """The duration that `text` names, more than zero. Raises ValueError saying what was expected."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; expected a number and s, m, h or d, such as '45m'")
    amount, unit = match.groups()
    seconds = float(amount) * SECONDS[unit[0]]
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError(f"{text!r} is out of range; expected more than 0 s and at most {LONGEST.days} days")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """`duration` in its largest whole unit; `parse_duration` reads it back."""
    microseconds = duration // timedelta(microseconds=1)
    for unit in "dhms":
        amount, rest = divmod(microseconds, SECONDS[unit] * 1_000_000)
        if not rest:
            return f"{amount}{unit}"
    return f"{microseconds / 1_000_000:.6f}".rstrip("0") + "s"


def in_words(seconds: float) -> str:
    """`12 min`: whole days, hours, minutes or seconds."""
    size, unit = next(((s, u) for s, u in ((86_400, "d"), (3600, "h"), (60, "min")) if seconds >= s), (1, "s"))
    return f"{seconds // size:.0f} {unit}"


def in_two_units(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`; a unit begins at two of it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    big, small, size, part = next(unit for unit in _TWO_UNITS if whole >= unit[2] * 2)
    return f"{whole // size} {big} {whole % size // part} {small}"


_TWO_UNITS = (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1))


def from_now(distance: timedelta) -> str:
    """`in 3 h`, or `5 min ago` of a negative one."""
    length = in_words(abs(distance.total_seconds()))
    return f"in {length}" if distance > timedelta(0) else f"{length} ago"
