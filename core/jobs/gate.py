"""The conditions under which a finished run is not shown until a person decides: `gate = { … }` of a job."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from scorebeat.core.jobs.fields import as_float, checked_table


def _share(share: float) -> float:
    if not 0 <= share < 1:
        raise ValueError(f"is {share:g}; expected a share from 0 to below 1, such as 0.02")
    return share


def _at_least_one(rows: int) -> int:
    if rows < 1:
        raise ValueError(f"is {rows:,}; expected a whole number from 1 on")
    return rows


class Gate(BaseModel):
    """The conditions, each None if it is not set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    drift: Annotated[Literal["hold"] | None, Field(exclude_if=lambda kept: kept is None)] = None
    """Any input or output is too far from the reference, by the job's `drift`."""
    constant: Annotated[Literal["hold"] | None, Field(exclude_if=lambda kept: kept is None)] = None
    """An output has one value in all rows."""
    missing: Annotated[
        Annotated[float, BeforeValidator(as_float), AfterValidator(_share)] | None,
        Field(exclude_if=lambda kept: kept is None),
    ] = None
    """A greater share of the rows than this has no prediction: quarantined, or NULL or NaN."""
    min_rows: Annotated[
        Annotated[int, AfterValidator(_at_least_one)] | None, Field(exclude_if=lambda kept: kept is None)
    ] = None
    """Fewer rows than this were scored."""


def as_gate(value: object) -> object:
    """The gate that a job sets. Raises ValueError."""
    if isinstance(value, Mapping):
        made = checked_table(Gate, value)
        if made == Gate():
            raise ValueError(f"has no condition; expected one or more of {', '.join(Gate.model_fields)}")
        return made
    if value is None or isinstance(value, Gate):
        return value
    raise ValueError('expected a table such as { drift = "hold", min_rows = 1000 }')
