"""What was seen of a model version when it was added: whose rows it scored, and how near the library's own result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

INVENTED = "invented"
"""The source of rows that no person gave."""


@dataclass(frozen=True)
class Evidence:
    """The outcome of the trial of one version."""

    rows: int
    """Rows that were tried."""
    source: str = INVENTED
    """Where they are from, such as `churn.csv` or `job churn`."""
    difference: float | None = None
    """The largest difference from what the library's own predict returns for the same rows; None: not compared."""
    error: str = ""
    """What the model raised on invented rows; empty: it scored them."""
    unsure: str = ""
    """Why rows of training may be scored otherwise, where no rows of a person showed that they are not."""
    unsteady: str = ""
    """How predictions depend on other rows or on time, which was accepted; empty: they do not."""

    @property
    def is_enough(self) -> bool:
        """Whether the version scored rows, and nothing speaks against its predictions."""
        return not self.error and not self.unsure

    @property
    def is_of_rows_given(self) -> bool:
        """Whether a person gave the rows."""
        return self.source != INVENTED

    def to_json(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` returned; fields of a later version are left out."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def __str__(self) -> str:
        whose = f"{self.rows:,} row{'s' * (self.rows != 1)} of {self.source}"
        tried = whose if self.is_of_rows_given else f"{self.rows} invented rows"
        if self.error:
            return f"none: {tried} raised {self.error}"
        said = f"{tried}: {self._agreement()}" + f"; unsure: {self.unsure}" * bool(self.unsure)
        return said + f"; accepted: {self.unsteady}" * bool(self.unsteady)

    def _agreement(self) -> str:
        if self.difference is None:
            return "scored, with nothing to compare with"
        near = f" to {self.difference:.0e}" if self.difference else ""
        return f"agree with the library{near}"
