"""Points in time as people type them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def parse_time(text: str, zone: ZoneInfo) -> datetime:
    """A date, or a date and time, of ISO 8601; in `zone` unless it says its own offset. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; expected ISO 8601, such as 2026-07-01, 2026-07-01T02:30 or 2026-07-01T02:30+02:00"
        ) from None
