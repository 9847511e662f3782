"""Points in time as people type them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def parse_time(text: str, zone: ZoneInfo) -> datetime:
    """A date, or a date and time, of ISO 8601; without an offset it is in `zone`. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text.strip())
        in_utc = (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
        is_skipped = found.tzinfo is None and in_utc.astimezone(zone).replace(tzinfo=None) != found
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; expected ISO 8601, such as 2026-07-01, 2026-07-01T02:30 or 2026-07-01T02:30+02:00"
        ) from None
    if is_skipped:
        raise ValueError(
            f"{text!r} does not exist in {zone}: clocks skip it, and what is due then is due at the end of the gap. "
            f"Expected a time that exists, such as {in_utc.astimezone(zone):%Y-%m-%dT%H:%M}"
        )
    return in_utc
