"""Types and checks of values that several blocks of a jobs file have."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, PlainSerializer, ValidationError

from scorebeat.core.errors import near
from scorebeat.core.text.durations import format_duration, parse_duration


def as_float(value: object) -> object:
    """A whole number as a float; anything else as it is."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_duration(value: object) -> object:
    """The duration that a text names; anything else as it is."""
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta, BeforeValidator(as_duration), PlainSerializer(format_duration, return_type=str, when_used="json")
]


def within(least: int, most: int) -> AfterValidator:
    """The check that a whole number lies between two others, both included."""

    def check(number: int) -> int:
        if not least <= number <= most:
            raise ValueError(f"is {number:,}; expected a whole number from {least:,} to {most:,}")
        return number

    return AfterValidator(check)


def checked_table(kind: type[BaseModel], value: Mapping[str, Any]) -> Any:
    """The model of a table of jobs.toml. Raises ValueError with what is wrong, and what was expected."""
    unknown = [key for key in value if key not in kind.model_fields]
    if unknown:
        raise ValueError(f"has {unknown[0]!r}, which is not one of its keys.{near(unknown[0], [*kind.model_fields])}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        one = error.errors()[0]
        if one["type"] == "missing":
            raise ValueError(f"{one['loc'][0]} is missing; expected it too") from None
        what = str(one["msg"]).replace("Input should be", f"is {one['input']!r}; expected")
        what = str(one["ctx"]["error"]) if one["type"] == "value_error" else what
        raise ValueError(f"{one['loc'][0]} {what}") from None
