"""Schedules: when a job is due, from a crontab or an interval."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED = "expected a crontab of 5 fields ('19 * * * *') or an interval ('every 5 minutes')"

_UNITS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_EVERY = re.compile(r"every\s+(?:(\d{1,6})\s+)?(second|minute|hour|day)s?", re.ASCII)
_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31",
    "month": "1-12 or jan-dec",
    "day-of-week": "0-7 or sun-sat",
}
_VALUES = {"minute": 60, "hour": 24, "day-of-month": 31, "month": 12, "day-of-week": 7}
_STEP_UNITS = {"minute": "minutes", "hour": "hours", "day-of-month": "days"}
"""Fields whose steps an interval can have."""
_GAPS = 101
_AROUND_CHANGE = timedelta(hours=3)
"""Longer than any stretch of local time that a zone repeats."""


class Schedule(ABC):
    """Times at which a job is due; every datetime in and out is aware, and every returned one is UTC."""

    @staticmethod
    def parse(text: str, timezone: str = "UTC") -> "Schedule":
        """The schedule that `text` names. Raises ValueError.

        A crontab is read in `timezone`. An interval counts from 1970-01-01 00:00 UTC in any zone, so
        that all processes agree.
        """
        words = text.strip().lower()
        return _interval(words) if words.startswith("every") else _crontab(words, find_zone(timezone))

    @abstractmethod
    def latest_due(self, now: datetime) -> datetime:
        """The last due time that is not after `now`."""

    @abstractmethod
    def next_due(self, now: datetime) -> datetime:
        """The first due time after `now`."""

    def shortest_gap(self) -> timedelta:
        """The shortest time between two due times, of the first hundred since 2000."""
        times = [EPOCH.replace(year=2000)]
        while len(times) <= _GAPS:
            times.append(self.next_due(times[-1]))
        return min(later - earlier for earlier, later in pairwise(times[1:]))

    def between(self, after: datetime, before: datetime, most: int) -> list[datetime]:
        """Due times after `after` and before `before`, the oldest first, at most `most`."""
        found: list[datetime] = []
        while len(found) < most and (after := self.next_due(after)) < before:
            found.append(after)
        return found


@dataclass(frozen=True)
class Interval(Schedule):
    """Due each whole multiple of `every` since the Unix epoch."""

    every: timedelta

    def latest_due(self, now: datetime) -> datetime:
        return EPOCH + (_aware(now) - EPOCH) // self.every * self.every

    def next_due(self, now: datetime) -> datetime:
        return self.latest_due(now) + self.every


@dataclass(frozen=True)
class Crontab(Schedule):
    """Due at the local times that five crontab fields match, as in crontab(5).

    Each local time is due once, also where clocks change: one that is skipped is due when the clocks
    have gone forward, one that comes twice is due the first time. A crontab of all 24 hours follows
    real time instead, so that an hourly job stays hourly: both repeated hours are due.
    """

    fields: str
    zone: ZoneInfo
    hourly: bool
    """The hour field names all 24 hours."""

    def latest_due(self, now: datetime) -> datetime:
        margin = self._margin(now)
        start = self._local(now + margin).replace(microsecond=0) + timedelta(seconds=1)
        earliest = self._local(now - margin)
        found: list[datetime] = []
        for local in CronSim(self.fields, start, reverse=True):
            found += [due_at for due_at in self._due_times(local) if due_at <= now]
            if found and local <= earliest:
                return max(found)
        raise ValueError(f"{self.fields!r} was never due before {now}")

    def next_due(self, now: datetime) -> datetime:
        margin = self._margin(now)
        latest = self._local(now + margin)
        found: list[datetime] = []
        for local in CronSim(self.fields, self._local(now - margin)):
            found += [due_at for due_at in self._due_times(local) if due_at > now]
            if found and local >= latest:
                return min(found)
        raise ValueError(f"{self.fields!r} is never due after {now}")

    def _margin(self, now: datetime) -> timedelta:
        """How far local and real time may disagree in their order around `now`."""
        aware = _aware(now)
        before, after = ((aware + by).astimezone(self.zone).utcoffset() for by in (-_AROUND_CHANGE, _AROUND_CHANGE))
        return timedelta(0) if before == after else _AROUND_CHANGE

    def _local(self, time: datetime) -> datetime:
        return time.astimezone(self.zone).replace(tzinfo=None)

    def _due_times(self, local: datetime) -> list[datetime]:
        """Every UTC time at which the matched local time is due."""
        if self.hourly:
            return [due_at for due_at in self._in_utc(local) if self._local(due_at) == local]
        first = self._in_utc(local)[0]
        while self._local(first) != local:  # the clocks skip it
            local += timedelta(minutes=1)
            first = self._in_utc(local)[0]
        return [first]

    def _in_utc(self, local: datetime) -> list[datetime]:
        """Both UTC times that a local time may have: they differ if clocks repeat or skip it."""
        return [local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


def find_zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError with zones that have a similar name or city."""
    if name in _zone_names():
        return ZoneInfo(name)
    if not _zone_names():
        raise ValueError("this machine knows no time zones; install the Python package tzdata")
    names = {zone.lower(): zone for zone in sorted(_zone_names())}
    cities = {zone.lower().rpartition("/")[2]: zone for zone in sorted(_zone_names())}
    word = name.strip().lower().replace(" ", "_")
    close = [names[found] for found in get_close_matches(word, names, n=3, cutoff=0.7)]
    close += [cities[found] for found in get_close_matches(word, cities, n=3, cutoff=0.8)]
    nearest = list(dict.fromkeys(close))[:3]
    meant = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    raise ValueError(f"{name!r} is not a time zone; expected a name such as 'UTC' or 'Europe/Berlin'.{meant}")


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def require_steps_within(text: str) -> None:
    """Raises ValueError for a crontab with a step beyond its field, such as 90 minutes: it begins anew each hour.

    Only new schedules are checked: an older one in the ledger goes on as before.
    """
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        return
    for name, field in zip(_FIELDS, words, strict=True):
        for step in re.findall(r"/(\d+)", field):
            if int(step) > _VALUES[name]:
                unit = _STEP_UNITS.get(name)
                instead = f"'every {int(step)} {unit}'" if unit else "the values themselves, such as '1,4'"
                raise ValueError(
                    f"{' '.join(words)!r} has a step of {step} in its {name}, which has only {_VALUES[name]} values "
                    f"and begins anew after them; expected {instead}"
                )


def _interval(words: str) -> Interval:
    match = _EVERY.fullmatch(words)
    if match is None:
        raise ValueError(
            f"{words!r} is not an interval; expected 'every' and a whole number of seconds, minutes, hours "
            "or days, such as 'every 5 minutes', 'every hour' or 'every 1 day'"
        )
    count, unit = match.groups()
    if count is not None and int(count) == 0:
        raise ValueError(f"{words!r} has no length; expected at least 'every 1 second'")
    return Interval(every=int(count or 1) * _UNITS[unit])


def _crontab(words: str, zone: ZoneInfo) -> Crontab:
    fields = words.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{words!r} has {len(fields)} field{'s' * (len(fields) != 1)}; {EXPECTED}")
    crontab, start = " ".join(fields), EPOCH.replace(year=2000, tzinfo=None)
    try:
        dates = CronSim(crontab, start)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")  # cronsim's whole message is `Bad <field>`
        field = fields[list(_FIELDS).index(name)]
        if name == "day-of-month" and field.isdigit() and 1 <= int(field) <= 31:
            raise ValueError(f"{crontab!r} names a date that never comes: no such month has a day {field}") from None
        raise ValueError(
            f"{crontab!r} has a wrong {name} {field!r}; expected {_FIELDS[name]}, '*', steps such as '*/5', "
            "ranges such as '1-5' or lists such as '1,3'"
        ) from None
    if next(dates, None) is None:
        raise ValueError(f"{words!r} names a date that never comes")
    return Crontab(crontab, zone, hourly=len(dates.hours) == 24)


def _aware(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone; expected an aware datetime")
    return now.astimezone(UTC)
