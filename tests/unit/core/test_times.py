"""Times that people type: in the job's zone, and only those that its clocks show."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from scorebeat.core.text.timestamps import parse_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-03-29T01:59:59", datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)),
        ("2026-03-29T03:00", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("2026-03-29T02:30+01:00", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # the first of two
    ],
)
def test_a_time_is_read_in_the_zone_unless_it_has_an_offset(text: str, expected: datetime) -> None:
    assert parse_time(text, BERLIN) == expected


@pytest.mark.parametrize(("text", "zone"), [("2026-03-29T02:30", BERLIN), ("2011-12-30", ZoneInfo("Pacific/Apia"))])
def test_a_time_that_clocks_skip_is_refused(text: str, zone: ZoneInfo) -> None:
    with pytest.raises(ValueError, match=f"does not exist in {zone.key}: clocks skip it"):
        parse_time(text, zone)
