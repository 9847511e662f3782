"""The predictor that scores rows of a request: `producer.online`, where this installation has it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from db.versions import Version
from producer.context import Producer

MODULE = "producer.online"


class Predictor(Protocol):
    """May be used by several threads."""

    def version(self, model: str) -> Version:
        """The version that `iris` (the published one) or `iris/3` names now. Raises UnknownName or UsageError."""
        ...

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One dict of outputs a row. Raises SignatureError or InputError for rows that do not fit, ModelError."""
        ...


class NotInstalled(Exception):
    """This installation cannot score rows of a request."""


def predictor(p: Producer) -> Predictor:
    """Raises NotInstalled."""
    if find_spec(MODULE) is None:
        raise NotInstalled("this installation has no online predictions")
    made: Predictor = import_module(MODULE).Predictor(p)
    return made
