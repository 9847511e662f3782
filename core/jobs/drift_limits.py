"""How large a difference from the reference has to be before it is called drift: `drift = { … }` of a job."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from scorebeat.core.errors import near


def as_float(value: object) -> object:
    """A whole number as a float; anything else as it is."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _above_zero(limit: float) -> float:
    if not 0 < limit < float("inf"):
        raise ValueError(f"is {limit:g}; expected a number above 0")
    return limit


def _rows(least: int) -> int:
    if least < 100:
        raise ValueError(f"is {least:,}; expected at least 100: chance makes fewer rows look different each time")
    return least


Limit = Annotated[float, BeforeValidator(as_float), AfterValidator(_above_zero)]


class DriftLimits(BaseModel):
    """From which size on a difference is reported."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    psi: Limit = 0.2
    """Population stability index; 0.1 is often called a small change, 0.25 a large one."""
    distance: Limit = 0.25
    """Of numbers the Wasserstein distance in standard deviations of the reference; of categories the Jensen-Shannon
    distance, from 0 to 1."""
    missing: Limit = 0.05
    """Change of the share of rows with NULL or NaN."""
    outside: Limit = 0.01
    """Share of numbers below the least or above the greatest of the reference."""
    new: Limit = 0.01
    """Share of rows with a value that the reference does not have."""
    labels: Limit = 0.1
    """Change of the share of one value of an output."""
    min_rows: Annotated[int, AfterValidator(_rows)] = 1000
    """Rows of the sample below which nothing is compared."""


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


def drift_limits(value: object) -> object:
    """The limits that a job sets; False or None means that its runs keep no profile."""
    if value is None or value is False:
        return None
    if value is True:
        return DriftLimits()
    if isinstance(value, Mapping):
        return checked_table(DriftLimits, value)
    if isinstance(value, DriftLimits):
        return value
    raise ValueError("expected a table such as { psi = 0.3 }, or false, so that no profile is kept")
