"""The engines of a model version: ways to compute the same numbers, of which its workers use the fastest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from scorebeat.core.errors import ScorebeatError

NATIVE, COMPILED = "native", "compiled"
"""The model's own library; one compiled pass over texts."""
ENGINES = (NATIVE, COMPILED)


class EngineUnavailable(ScorebeatError):
    """A model cannot be scored by this engine here; the message says why."""


@dataclass(frozen=True)
class EngineChoice:
    """The engine that a version's workers use, and how it was chosen."""

    engine: str = NATIVE
    rows_per_second: Mapping[str, float] | None = None
    """Of each engine over the rows of the trial, on one core of the machine that added the version."""
    rows: int = 0
    """Different rows that were measured, some of them several times."""
    refused: str = ""
    """Why the compiled engine was not used, for a model that reads texts; else empty."""
    by_person: bool = False
    """Whether --engine named it."""

    def to_json(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self) | {"rows_per_second": self.rows_per_second and dict(self.rows_per_second)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The choice that `to_json` returned; unknown fields, of a later version, are left out."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})

    def __str__(self) -> str:
        measured = sorted((self.rows_per_second or {}).items(), key=lambda each: -each[1])
        speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in measured)
        over = f"; rows/s over {self.rows:,} rows: {speeds}" * bool(speeds)
        why = f", as --engine names it{over}" if self.by_person else over
        return f"{self.engine}{why}{f': not compiled, for {self.refused}' * bool(self.refused)}"


CHOSEN_NATIVE = EngineChoice()
"""The choice for a model that has no other engine."""
