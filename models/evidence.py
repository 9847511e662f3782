"""The evidence of a model version's trial: the rows that it scored, and the difference from its library's result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

INVENTED = "invented"
"""The source of rows that are not a person's."""


@dataclass(frozen=True)
class Evidence:
    """The outcome of the trial of one version."""

    rows: int
    """Number of rows in the trial."""
    source: str = INVENTED
    """The source of the rows, such as `churn.csv` or `job churn`."""
    difference: float | None = None
    """The largest difference from what the library's own predict returns for the same rows; None if not compared."""
    error: str = ""
    """The error that the model raised on invented rows; empty if it scored them."""
    unsure: str = ""
    """Why predictions may differ from those in training, if no person's rows showed that they do not; else empty."""
    unsteady: str = ""
    """How predictions depend on other rows or on time, which was accepted; empty if they do not."""

    @property
    def is_enough(self) -> bool:
        """Whether the version scored rows, and nothing speaks against its predictions."""
        return not self.error and not self.unsure

    @property
    def is_of_supplied_rows(self) -> bool:
        """Whether the rows are a person's."""
        return self.source != INVENTED

    def to_json(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The evidence that `to_json` returned; unknown fields, of a later version, are left out."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def __str__(self) -> str:
        whose = f"{self.rows:,} row{'s' * (self.rows != 1)} of {self.source}"
        tried = whose if self.is_of_supplied_rows else f"{self.rows} invented rows"
        if self.error:
            return f"none: {tried} raised {self.error}"
        agreement = "scored, with nothing to compare with"
        if self.difference is not None:
            agreement = "agree with the library" + f" to {self.difference:.0e}" * bool(self.difference)
        outcome = f"{tried}: {agreement}" + f"; unsure: {self.unsure}" * bool(self.unsure)
        return outcome + f"; accepted: {self.unsteady}" * bool(self.unsteady)
