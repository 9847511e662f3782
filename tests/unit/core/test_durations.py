"""Durations: what is written is read back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.text.durations import format_duration, from_now, in_two_units, parse_duration


@given(st.integers(1, 10**14).map(lambda us: timedelta(microseconds=us)))
def test_a_duration_is_read_back_as_it_was(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=45), "45m"),
        (timedelta(hours=2), "2h"),
        (timedelta(days=1), "1d"),
        (timedelta(seconds=1.5), "1.5s"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (119, "119 s"), (120, "2 min 0 s"), (185, "3 min 5 s"),
        (7199, "119 min 59 s"), (7800, "2 h 10 min"), (172_799, "47 h 59 min"), (3 * 86_400 + 14_400, "3 d 4 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert in_two_units(seconds) == text


@pytest.mark.parametrize("text", ["", "45", "m", "-5m", "0m", "1.5.2s", "5 weeks", "1e3s", "99999999d", "\u0665m"])
def test_a_wrong_duration_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.5 * 3600, "in 3 h"), (-300, "5 min ago"), (59, "in 59 s"), (2 * 86_400, "in 2 d"), (0, "0 s ago")],
)
def test_how_far_a_time_is_from_now_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert from_now(timedelta(seconds=seconds)) == text
