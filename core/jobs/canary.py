"""A small, regular look at a job that runs rarely: `canary = { … }` of a job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from scorebeat.core.jobs.fields import Duration, checked_table, within
from scorebeat.core.text.durations import format_duration

SHORTEST = timedelta(minutes=1)
MOST_ROWS = 10_000


def _not_shorter(every: timedelta) -> timedelta:
    if every < SHORTEST:
        raise ValueError(f"is {format_duration(every)}; expected {format_duration(SHORTEST)} or more")
    return every


class Canary(BaseModel):
    """How often so many rows are scored and checked, without being stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    every: Annotated[Duration, AfterValidator(_not_shorter)]
    """No canary is sent while a run of the job scored rows, or another canary was sent, so short a time ago."""
    rows: Annotated[int, within(1, MOST_ROWS)] = 200


def as_canary(value: object) -> object:
    """The canary that a job sets. Raises ValueError."""
    if isinstance(value, Mapping):
        return checked_table(Canary, value)
    if value is None or isinstance(value, Canary):
        return value
    raise ValueError('expected a table such as { every = "1d", rows = 200 }')
