"""A case of the parity suite: how a team builds and saves a model, and what its library predicts for their rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorebeat.models.contract import NOTHING, AddOptions

Expected = dict[str, Any]
"""Output columns by name, as NumPy arrays of the type that the library returned."""


@dataclass(frozen=True)
class Built:
    """A trained model on disk, and the rows that are to be scored."""

    source: Path | str
    """The argument of `models add`: a file, a folder, or `module:Class` of a module in the case's folder."""
    frame: Any
    """The rows as the team's notebook has them: a pandas DataFrame with the columns in the order of training."""
    predict: Callable[[Any], Expected]
    """The library's own predictions for such a DataFrame, or some of its rows; it may raise for those it refuses."""
    options: AddOptions = NOTHING
    """The options of `models add`."""
    types: Mapping[str, str] = field(default_factory=dict)
    """PostgreSQL's types of columns, where not those that `table.sql_type` finds."""
    query: str = "SELECT * FROM {table}"
    """The job's; the table has the columns in another order than the frame, and more of them."""


@dataclass(frozen=True)
class Case:
    """One model of the suite."""

    build: Callable[[Path], Built]
    """Trains the model, and saves it in this empty folder."""
    needs: tuple[str, ...] = ()
    """Packages without which the case is skipped."""
    refused: str = ""
    """A pattern: `models add` refuses the model with these words, and nothing is scored."""
