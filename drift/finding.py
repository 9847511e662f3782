"""What the comparison of one measure with its reference found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Finding:
    """The comparison of one measure of an input or output."""

    side: str
    """`input` or `output`."""
    name: str
    psi: float | None
    """None if nothing can be compared: no row had a value."""
    distance: float | None
    missing: tuple[float, float]
    """Share of rows without a value, in the reference and now."""
    mean: tuple[float | None, float | None]
    median: tuple[float | None, float | None]
    reasons: tuple[str, ...] = ()
    """What is too large, for a person; empty if nothing is."""

    @property
    def columns(self) -> dict[str, Any]:
        """The same with one value a name, as tables and programs read it."""
        pairs = {"missing": self.missing, "mean": self.mean, "median": self.median}
        both = {
            f"{name}_{when}": v for name, pair in pairs.items() for when, v in zip(("before", "now"), pair, strict=True)
        }
        return {
            "side": self.side,
            "name": self.name,
            "psi": self.psi,
            "distance": self.distance,
            **both,
            "reasons": list(self.reasons),
        }

    def to_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` stored."""
        read: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in data.items()}
        return cls(**read)
