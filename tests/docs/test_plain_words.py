"""One word for one thing: phrases of an older dialect do not come back."""

import re

import pytest

from tests.docs.pages import REPOSITORY

INSTEAD = {
    r"\bputs? aside\b|\bputting aside\b": "quarantine",
    r"\bin hand\b": "claimed, in progress",
    r"\b(not|was|is) to be had\b": "cannot be reached, unavailable",
    r"\bdue[ _]moments?\b": "due time",
    r"; answers (?!/)": "returns",
    r"\b[Nn]one where\b": "None if",
    r"\bNone when not\b": "else None",
    r"\bunless told\b": "by default",
}
FOLDERS = (
    "api", "benchmarks", "broker", "client", "core", "db", "docs", "examples", "models", "monitor", "online", "ops",
    "producer", "src", "tests", "worker",
)  # fmt: skip
KEPT = ("docs/decisions/", "db/schema/migrations/versions/", "tests/docs/test_plain_words.py")
"""Records of their time, migrations whose bytes are released, and this list."""


@pytest.mark.parametrize("phrase", INSTEAD)
def test_a_phrase_of_the_dialect_is_nowhere(phrase: str) -> None:
    files = [
        file for folder in FOLDERS for kind in ("py", "md", "html") for file in (REPOSITORY / folder).rglob(f"*.{kind}")
    ]
    found = [
        f"{name}: {line.strip()}"
        for file in [*files, *REPOSITORY.glob("*.md")]
        if not (name := str(file.relative_to(REPOSITORY))).startswith(KEPT) and name != "CHANGELOG.md"
        for line in file.read_text("utf-8").splitlines()
        if re.search(phrase, line)
    ]

    assert found == [], f"write: {INSTEAD[phrase]}"
