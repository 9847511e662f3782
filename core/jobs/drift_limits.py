"""How large a difference from the reference has to be before it is called drift: `drift = { … }` of a job."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from scorebeat.core.jobs.fields import as_float, checked_table


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
