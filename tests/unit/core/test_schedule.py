"""Schedules: what is due when, also where clocks change."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebeat.core.jobs.schedule import Schedule, find_zone, require_steps_within
from tests.support.fixtures import REPOSITORY

pytestmark = pytest.mark.wide(quick=5)

TIMES = st.datetimes(datetime(1995, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",  # its clocks changed at midnight
        "Australia/Lord_Howe",  # by half an hour
        "Antarctica/Troll",  # by two hours
        "Pacific/Apia",  # left out 30 December 2011
        "Asia/Kathmandu",
    ]
)
SCHEDULES = st.sampled_from(
    [
        "19 * * * *",
        "*/5 * * * *",
        "*/30 2 * * *",
        "30 2 * * *",
        "0 0 * * *",
        "0,30 */2 * * *",
        "15,45 1-3 * mar,oct sun",
        "0 9 * * mon-fri",
        "0 12 13 * fri",
        "0 * 1 * *",
        "0 0 29 2 *",
        "every 10 seconds",
        "every 7 minutes",
        "every hour",
        "every day",
    ]
)


def berlin(text: str) -> datetime:
    """A UTC time from Berlin time with its offset written out."""
    return datetime.fromisoformat(text).astimezone(UTC)


def dues(schedule: Schedule, since: datetime, count: int) -> list[str]:
    """The next `count` due times in Berlin time."""
    found = []
    for _ in range(count):
        since = schedule.next_due(since)
        found.append(since.astimezone(find_zone("Europe/Berlin")).isoformat())
    return found


@given(SCHEDULES, ZONES, TIMES)
@settings(max_examples=300, deadline=None)
def test_now_lies_between_the_latest_and_the_next_due_time(text: str, zone: str, now: datetime) -> None:
    schedule = Schedule.parse(text, zone)
    latest, following = schedule.latest_due(now), schedule.next_due(now)

    assert latest <= now < following
    assert schedule.latest_due(following) == following
    assert schedule.next_due(latest) == following
    assert schedule.latest_due(following - timedelta(microseconds=1)) == latest
    assert latest.tzinfo is UTC
    assert following.tzinfo is UTC


@given(
    SCHEDULES,
    st.sampled_from(
        [
            ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
            ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
            ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
            ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
            ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
            ("Antarctica/Troll", datetime(2025, 10, 26, 1, tzinfo=UTC)),
            ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ]
    ),
    st.integers(-36 * 3600, 36 * 3600),
)
@settings(max_examples=500, deadline=None)
def test_the_order_holds_around_every_change_of_clocks(text: str, change: tuple[str, datetime], seconds: int) -> None:
    zone, at = change
    schedule, now = Schedule.parse(text, zone), at + timedelta(seconds=seconds)
    latest, following = schedule.latest_due(now), schedule.next_due(now)

    assert latest <= now < following
    assert schedule.latest_due(following) == following
    assert schedule.next_due(latest) == following


def test_a_local_time_that_the_clocks_skip_is_due_when_they_have_gone_forward() -> None:
    schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")

    assert dues(schedule, berlin("2026-03-28T12:00+01:00"), 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]


def test_a_local_time_that_comes_twice_is_due_once() -> None:
    schedule = Schedule.parse("*/30 2 * * *", "Europe/Berlin")

    assert dues(schedule, berlin("2026-10-25T00:00+02:00"), 3) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:00:00+01:00",
    ]


def test_an_hourly_crontab_stays_hourly_while_clocks_change() -> None:
    schedule = Schedule.parse("19 * * * *", "Europe/Berlin")

    assert dues(schedule, berlin("2026-10-25T01:30+02:00"), 3) == [
        "2026-10-25T02:19:00+02:00",
        "2026-10-25T02:19:00+01:00",
        "2026-10-25T03:19:00+01:00",
    ]
    assert dues(schedule, berlin("2026-03-29T01:00+01:00"), 2) == [
        "2026-03-29T01:19:00+01:00",
        "2026-03-29T03:19:00+02:00",
    ]


def test_a_crontab_is_read_in_the_zone_of_the_job() -> None:
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)

    assert Schedule.parse("0 9 * * *", "Europe/Berlin").next_due(now) == datetime(2026, 7, 2, 7, tzinfo=UTC)
    assert Schedule.parse("0 9 * * *").next_due(now) == datetime(2026, 7, 2, 9, tzinfo=UTC)


def test_day_of_month_and_day_of_week_are_joined_as_in_cron() -> None:
    thursday = datetime(2026, 3, 12, 12, tzinfo=UTC)

    assert Schedule.parse("0 0 15 * fri").next_due(thursday).day == 13
    assert Schedule.parse("0 0 15 * *").next_due(thursday).day == 15


def test_a_day_field_that_begins_with_a_star_is_joined_by_and_as_documented() -> None:
    begin = datetime(2026, 3, 1, 12, tzinfo=UTC)
    page = (REPOSITORY / "docs/reference/jobs-toml.md").read_text("utf-8")

    for text, either in (("0 0 */2 * fri", False), ("0 0 1-31/2 * fri", True), ("0 0 13 * */2", False)):
        schedule, days = Schedule.parse(text), []
        at = begin
        for _ in range(20):
            at = schedule.next_due(at)
            days.append((at.day, at.isoweekday() % 7))
        _, _, of_month, _, of_week = text.split()
        in_month = [day == 13 if of_month == "13" else day % 2 == 1 for day, _ in days]
        in_week = [day == 5 if of_week == "fri" else day % 2 == 0 for _, day in days]
        joined = [a or b if either else a and b for a, b in zip(in_month, in_week, strict=True)]
        assert all(joined), text
        assert all(a and b for a, b in zip(in_month, in_week, strict=True)) != either
        assert f"`{text}`" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/90 * * * *", "expected 'every 90 minutes'"),
        ("5,*/61 * * * *", "expected 'every 61 minutes'"),
        ("0 */36 * * *", "expected 'every 36 hours'"),
        ("0 0 */45 * *", "expected 'every 45 days'"),
        ("0 0 1 1/13 *", "expected the values themselves"),
        ("0 0 * * */8", "expected the values themselves"),
    ],
)
def test_a_step_beyond_its_field_is_refused_with_what_to_write(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        require_steps_within(text)


@pytest.mark.parametrize("text", ["*/60 * * * *", "0 */24 * * *", "0 0 1 */12 *", "*/7 */5 * * *", "every 90 minutes"])
def test_a_step_within_its_field_is_taken(text: str) -> None:
    require_steps_within(text)
    Schedule.parse(text)


def test_due_times_between_two_times_are_after_the_first_and_before_the_second() -> None:
    schedule = Schedule.parse("0 2 * * *", "Europe/Berlin")
    first, last = berlin("2026-03-27T02:00+01:00"), berlin("2026-03-31T02:00+02:00")

    assert [at.isoformat() for at in schedule.between(first, last, 10)] == [
        "2026-03-28T01:00:00+00:00",
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:00:00+00:00",
    ]
    assert len(schedule.between(first, last, 2)) == 2
    assert schedule.between(first, first, 10) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("every 5 minutes", 300), ("Every 10 Seconds", 10), ("every hour", 3600), ("every 2 days", 172_800)],
)
def test_an_interval_counts_from_the_epoch_so_that_two_beats_agree(text: str, seconds: int) -> None:
    due = Schedule.parse(text, "Asia/Kathmandu").latest_due(datetime(2026, 7, 1, 12, 34, 56, 789, tzinfo=UTC))

    assert due.timestamp() % seconds == 0
    assert due.timestamp() + seconds > datetime(2026, 7, 1, 12, 34, 56, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("19 * * *", "'19 * * *' has 4 fields; expected a crontab of 5 fields ('19 * * * *')"),
        ("0 19 * * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("@hourly", "has 1 field; expected"),
        ("75 * * * *", "has a wrong minute '75'; expected 0-59"),
        ("* 24 * * *", "has a wrong hour '24'"),
        ("* * * foo *", "has a wrong month 'foo'; expected 1-12 or jan-dec"),
        ("0 0 * * moon", "has a wrong day-of-week 'moon'; expected 0-7 or sun-sat"),
        ("*/0 * * * *", "has a wrong minute '*/0'"),
        ("0 0 30 2 *", "names a date that never comes: no such month has a day 30"),
        ("0 0 */20 * 1L", "names a date that never comes"),
        ("every 0 seconds", "expected at least 'every 1 second'"),
        ("every 5 moons", "is not an interval; expected 'every' and a whole number of"),
        ("every 1.5 hours", "is not an interval"),
    ],
)
def test_a_wrong_schedule_is_refused_with_the_expected_form(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        Schedule.parse(text)


@given(st.text(alphabet="0123456789*/,-#L everymondy", max_size=24))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_schedule_or_a_plain_refusal(text: str) -> None:
    try:
        schedule = Schedule.parse(text)
    except ValueError as error:
        assert "expected" in str(error) or "never comes" in str(error)  # noqa: PT017 - both ends are right
    else:
        assert schedule.next_due(datetime(2026, 1, 1, tzinfo=UTC)) > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "near"),
    [("Europe/Berln", "Europe/Berlin"), ("europe/berlin", "Europe/Berlin"), ("new york", "America/New_York")],
)
def test_a_wrong_time_zone_is_refused_with_similar_names(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"is not a time zone; .* Did you mean .*'{near}'"):
        Schedule.parse("19 * * * *", name)


@pytest.mark.parametrize("name", ["", "../etc/passwd", "Europe", "/etc/localtime", "Nowhere/At_All", "a\0b"])
def test_no_text_reaches_beyond_the_time_zones(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        find_zone(name)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        Schedule.parse("every hour").latest_due(datetime(2026, 1, 1))
