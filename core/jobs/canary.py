"""A small, regular look at a job that runs rarely: `canary = { … }` of a job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from scorebeat.core.jobs.drift_limits import checked_table
from scorebeat.core.text.durations import format_duration, parse_duration

SHORTEST = timedelta(minutes=1)
MOST_ROWS = 10_000


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _not_shorter(every: timedelta) -> timedelta:
    if every < SHORTEST:
        raise ValueError(f"is {format_duration(every)}; expected {format_duration(SHORTEST)} or more")
    return every


def _few(rows: int) -> int:
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"is {rows:,}; expected a whole number from 1 to {MOST_ROWS:,}")
    return rows


class Canary(BaseModel):
    """How often so many rows are scored and checked, without being stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    every: Annotated[
        timedelta,
        BeforeValidator(_duration),
        AfterValidator(_not_shorter),
        PlainSerializer(format_duration, return_type=str, when_used="json"),
    ]
    """No canary is sent while a run of the job scored rows, or another canary was sent, so short a time ago."""
    rows: Annotated[int, AfterValidator(_few)] = 200


def as_canary(value: object) -> object:
    """The canary that a job sets. Raises ValueError."""
    if isinstance(value, Mapping):
        return checked_table(Canary, value)
    if value is None or isinstance(value, Canary):
        return value
    raise ValueError('expected a table such as { every = "1d", rows = 200 }')
