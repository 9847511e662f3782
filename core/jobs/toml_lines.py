"""TOML with line numbers: the line of each table and key, and every line that is not TOML.

`tomllib` parses, but keeps no positions and stops at the first mistake. So the text is first cut into its
statements (a header, or a key with its value), each the shortest run of whole lines that `tomllib` reads.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorebeat.core.errors import UsageError

Keys = tuple[str, ...]

_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_HEADER = re.compile(r"\s*\[\[?[\w\-.\"' ]+\]\]?\s*(#.*)?")
_KEY = re.compile(r"\s*([\w-]+)\s*=")
_CLOSED_BY = {'"""': '"""', "'''": "'''", "[": "]"}
_PLAINER = {
    "Illegal character '\\n'": "this string is not closed; put one of several lines between three quotes",
    "Invalid value": "this is no TOML value; write a string in quotes",
    "Invalid statement": "this is neither a [table] nor a key = value",
}


@dataclass(frozen=True)
class Mistake:
    """What is wrong at `where` (`jobs.iris.schedule`); lines count from 1."""

    line: int
    where: str
    what: str


@dataclass
class Document:
    """The content of one set of lines."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    """Index ranges of its lines; the end is excluded."""
    lines: dict[Keys, int] = field(default_factory=dict)
    damaged: set[Keys] = field(default_factory=set)
    """Tables with a line that could not be read: a key missing there may be on that line."""
    data: dict[str, Any] = field(default_factory=dict)

    def line(self, path: Keys) -> int:
        """Line of the key or table; else of the first longer name with it; else of the table around it."""
        while path:
            found = [line for known, line in self.lines.items() if known[: len(path)] == path]
            if found:
                return self.lines.get(path, min(found))
            path = path[:-1]
        return 1


@dataclass
class _Statement:
    first: int
    end: int
    data: dict[str, Any]
    mistake: Mistake | None = None


class _Reader:
    """Adds each statement to a document: the first, or a new one for a table that is repeated."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.documents = [Document()]
        self.document = self.documents[0]
        self.table: Keys = ()

    def header(self, statement: _Statement, *, array: bool) -> None:
        path: Keys = ()
        inner: Any = statement.data  # `[jobs.iris]` is parsed as `{"jobs": {"iris": {}}}`
        while inner:
            (key, inner) = next(iter(inner.items()))
            path += (key,)
            inner = inner[0] if isinstance(inner, list) else inner

        main, line = self.documents[0], statement.first + 1
        if array:
            main.lines = {known: at for known, at in main.lines.items() if known[: len(path)] != path}
        if path in main.lines:
            self._twice(line, path, main)
            self.documents.append(Document())
            self.document = self.documents[-1]
        elif path[: len(self.table)] != self.table:
            self.document = main
        self.table = path
        self.document.lines[path] = line
        self.document.spans.append((statement.first, statement.end))

    def keys(self, statement: _Statement) -> None:
        found = {self.table + path: leaf for path, leaf in _paths(statement.data)}
        for path, leaf in found.items():
            if leaf and path in self.document.lines:
                self._twice(statement.first + 1, path, self.document)
                return
        for path in found:
            self.document.lines.setdefault(path, statement.first + 1)
        self.document.spans.append((statement.first, statement.end))

    def broken_key(self, mistake: Mistake) -> None:
        self.document.damaged.add(self.table)
        where = ".".join((*self.table, mistake.where) if mistake.where else self.table)
        self.mistakes.append(Mistake(mistake.line, where, mistake.what))

    def _twice(self, line: int, path: Keys, document: Document) -> None:
        first = document.lines[path]
        self.mistakes.append(Mistake(line, ".".join(path), f"is repeated; it was first on line {first}"))


def read_text(path: Path, kind: type[UsageError], if_missing: str) -> str:
    """The text of a TOML file. Raises an error of the kind; `if_missing` is what to do if there is no file."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise kind(f"{path}: no such file; {if_missing}") from None
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise kind(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def report(path: Path, mistakes: Sequence[Mistake]) -> str:
    """The message of an error with all mistakes of the file, in the order of its lines."""
    in_order = sorted(mistakes, key=lambda mistake: mistake.line)
    lines = [f"  line {one.line}{', ' * bool(one.where)}{one.where}: {one.what}" for one in in_order]
    return "\n".join([f"{path}: {len(mistakes)} mistake{'s' * (len(mistakes) != 1)}", *lines])


def shown(value: object) -> str:
    """A value of the file, as a message shows it."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def read(text: str) -> tuple[list[Document], list[Mistake]]:
    """The documents in `text` (one, and one more for each repeated table), and what is not TOML."""
    lines, reader = text.replace("\r\n", "\n").split("\n"), _Reader()
    first = 0
    while first < len(lines):
        statement = _statement(lines, first)
        first = statement.end
        opening = lines[statement.first].lstrip()[:2]
        if statement.mistake and opening.startswith("["):
            reader.mistakes.append(statement.mistake)
        elif statement.mistake:
            reader.broken_key(statement.mistake)
        elif opening.startswith("["):
            reader.header(statement, array=opening == "[[")
        elif statement.data:
            reader.keys(statement)
    for document in reader.documents:
        kept = [""] * len(lines)  # the lines of other documents are empty, so that line numbers stay
        for begin, end in document.spans:
            kept[begin:end] = lines[begin:end]
        data = _parse("\n".join(kept))
        if isinstance(data, ValueError):  # statements that contradict each other
            what, line = _explain(data)
            reader.mistakes.append(Mistake(line or 1, "", what))
        else:
            document.data = data
    return reader.documents, reader.mistakes


def _parse(text: str) -> dict[str, Any] | ValueError:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and numbers too long for Python
        return error


def _statement(lines: list[str], first: int) -> _Statement:
    """The statement that begins on a line, or the mistake of one that is not TOML."""
    for end in _ends(lines, first):
        data = _parse("\n".join(lines[first:end]))
        if not isinstance(data, ValueError):
            return _Statement(first, end, data)
    error = _parse("\n".join(lines[first:]))
    what, line = _explain(error) if isinstance(error, ValueError) else ("this is not TOML", 1)
    key = _KEY.match(lines[first])
    mistake = Mistake(first + (line or 1), key.group(1) if key else "", what)
    end = first + 1
    if line != 1 or not key:  # what follows may belong to this statement
        while end < len(lines) and not _HEADER.fullmatch(lines[end]):
            end += 1
    return _Statement(first, end, {}, mistake)


def _ends(lines: list[str], first: int) -> Iterator[int]:
    """Indexes at which the statement may end: after its first line, or after a line that may close its bracket."""
    yield first + 1
    closers = [closer for opener, closer in _CLOSED_BY.items() if opener in lines[first]]
    for index in range(first + 1, len(lines)):
        if any(closer in lines[index] for closer in closers):
            yield index + 1


def _explain(error: ValueError) -> tuple[str, int | None]:
    """What is wrong, and on which line of the parsed text; None if the end of the text was reached."""
    position = _POSITION.search(str(error))
    what = _POSITION.sub("", str(error))
    if position is None:
        return what, 1
    if position.group(1) is None:
        return "what begins here is never closed", None
    return _PLAINER.get(what, f"this is not TOML: {what[:1].lower()}{what[1:]}"), int(position.group(1))


def _paths(data: dict[str, Any]) -> Iterator[tuple[Keys, bool]]:
    """The path of each key, and whether it holds a value rather than more keys."""
    for key, value in data.items():
        yield (key,), not isinstance(value, dict)
        if isinstance(value, dict):
            yield from (((key, *path), leaf) for path, leaf in _paths(value))
