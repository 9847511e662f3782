"""Durations: what is written is read back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.durations import format_duration, parse_duration


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


@pytest.mark.parametrize("text", ["", "45", "m", "-5m", "0m", "1.5.2s", "5 weeks", "1e3s", "99999999d", "\u0665m"])
def test_a_wrong_duration_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)
