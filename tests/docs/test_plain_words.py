"""One word for one thing: phrases of an older dialect do not come back."""

import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY

INSTEAD = {
    r"\bputs? aside\b|\bputting aside\b": "quarantine",
    r"\bin hand\b": "claimed, in progress",
    r"\b(not|was|is) to be had\b|\bcan(not)? be had\b|\bcannot be asked\b": "cannot be reached, unavailable",
    r"\b[Tt]ells? (of|that|people)\b": "describes, shows",
    r"\btells? nothing\b": "too few to compare",
    r"\banswers what\b|\banswered with the\b": "finishes; gets, returns",
    r"\bgives? signals\b": "passes signals on",
    r"\bdue[ _]moments?\b": "due time",
    r"; answers (?!/)": "returns",
    r"\b[Nn]one where\b": "None if",
    r"\bNone when not\b": "else None",
    r"\bunless told\b": "by default",
}
FOLDERS = (
    "api", "benchmarks", "broker", "client", "core", "db", "docs", "drift", "examples", "models", "monitor", "online",
    "ops", "producer", "src", "tests", "worker",
)  # fmt: skip
KINDS = {".py", ".md", ".html", ".js", ".css", ".sql", ".sh", ".yml", ".yaml", ".toml"}
WHOLE_FOLDERS = ("deploy", ".github", ".ci")
"""Each of their files is read, whatever its kind."""
WHOLE_FILES = ("Makefile", "Dockerfile", ".env.example", "tests/containers/bases.Dockerfile")
KEPT = ("docs/decisions/", "db/schema/migrations/versions/", "tests/docs/test_plain_words.py")
"""Records of their time, migrations whose bytes are released, and this list."""
IN_TESTS = {
    "told|tells?|said|says?|saying": "reports, shows, names; message, output, error",
    "answers?|answered|answering": "returns, replies; response, reply, result",
    "asks?|asked|asking": "requests, queries; statement, parameters",
    "given(?!.up)": "options, parameters; a variable has the noun of its content",
    "moments?": "time, timestamp",
    "aside": "quarantined",
}
NAMES = {"says"}
"""A module of the parity suite."""
PRODUCT = (
    "api/", "broker/", "core/", "db/", "drift/", "models/", "monitor/", "online/", "ops/", "producer/", "worker/",
)  # fmt: skip
WIRE_NAMES = {
    "moments",  # a field of the event tick.missed
}
HYPOTHESIS = re.compile(r"@given\(|from hypothesis import ")
BEFORE_A_DOCSTRING = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


@pytest.mark.parametrize("phrase", INSTEAD)
def test_a_phrase_of_the_dialect_is_nowhere(phrase: str) -> None:
    found = [
        f"{name}: {line.strip()}"
        for name, text in _texts().items()
        if re.search(phrase, text)  # most have none: their lines are not searched one by one
        for line in text.splitlines()
        if re.search(phrase, line)
    ]

    assert found == [], f"write: {INSTEAD[phrase]}"


@pytest.mark.parametrize("words", IN_TESTS)
def test_a_word_of_the_dialect_is_in_no_name_or_docstring_of_a_test(words: str) -> None:
    banned = re.compile(f"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)
    found = [f"{where}: {text}" for where, text in _of_tests() if text not in NAMES and banned.search(text)]

    assert found == [], f"write: {IN_TESTS[words]}"


@pytest.mark.parametrize("words", IN_TESTS)
def test_a_word_of_the_dialect_is_in_no_name_of_the_product(words: str) -> None:
    banned = re.compile(f"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)
    found = [f"{where}: {name}" for where, name in _names_of_the_product() if banned.search(name)]

    assert found == [], f"write: {IN_TESTS[words]}"


def test_a_title_is_a_guarantee_in_under_80_characters() -> None:
    titles = {title for text in _texts().values() for title in re.findall(r"def (test_\w+)", text)}

    assert sorted(title for title in titles if len(title) >= 80) == []
    assert sorted(title for title in titles if re.match("test_(what|who)(ever)?_", title)) == [], "name the subject"


@cache
def _texts() -> dict[str, str]:
    """Of all files that are read for their words, by their path."""
    files = [
        *(file for folder in FOLDERS for file in (REPOSITORY / folder).rglob("*") if file.suffix in KINDS),
        *(file for folder in WHOLE_FOLDERS for file in (REPOSITORY / folder).rglob("*") if file.is_file()),
        *(REPOSITORY / name for name in WHOLE_FILES),
        *(file for file in REPOSITORY.iterdir() if file.suffix in KINDS),
    ]
    return {
        name: file.read_text("utf-8")
        for file in files
        if not (name := str(file.relative_to(REPOSITORY))).startswith(KEPT) and name != "CHANGELOG.md"
    }


@cache
def _of_tests() -> list[tuple[str, str]]:
    """The names and the prose of tests and benchmarks, of files that have a banned word anywhere."""
    banned = re.compile(f"(?<![a-z])(?:{'|'.join(IN_TESTS)})(?![a-z])", re.IGNORECASE)
    return [
        (f"{name}:{line}", text)
        for name, whole in _texts().items()
        if name.startswith(("tests/", "benchmarks/")) and name.endswith(".py") and banned.search(whole)
        for line, text in _prose(REPOSITORY / name)
    ]


@cache
def _names_of_the_product() -> list[tuple[str, str]]:
    """All that its code names, without what programs outside of it read."""
    found = []
    for name in _texts():
        if name.startswith(PRODUCT) and name.endswith(".py"):
            with (REPOSITORY / name).open("rb") as opened:
                found += [
                    (f"{name}:{token.start[0]}", token.string)
                    for token in tokenize.tokenize(opened.readline)
                    if token.type == tokenize.NAME and token.string not in WIRE_NAMES
                ]
    return found


def _prose(file: Path) -> Iterator[tuple[int, str]]:
    """Names, comments and docstrings, each with the number of its first line."""
    before = tokenize.ENCODING
    with file.open("rb") as opened:
        for token in tokenize.tokenize(opened.readline):
            is_name = token.type == tokenize.NAME and not HYPOTHESIS.match(token.line)
            is_docstring = token.type == tokenize.STRING and before in BEFORE_A_DOCSTRING
            if is_name or is_docstring or token.type == tokenize.COMMENT:
                yield token.start[0], token.string
            if token.type not in (tokenize.NL, tokenize.COMMENT):
                before = token.type
