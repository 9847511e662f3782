"""Markdown pages as the tests read them: headings, links, fenced blocks and the commands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_FENCE = re.compile(r"^( *)(```+)\s*([\w-]*)\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?\)")
_CODE = re.compile(r"(`+)(.+?)\1")
_SAVED_AS = re.compile(r"[Ss]ave this as `([\w./-]+)`:$")
_NOTE = re.compile(r"^<!-- (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block, and its note on the line before."""

    page: str
    line: int
    """Of its first line of text."""
    language: str
    lines: tuple[str, ...]
    note: str = ""
    """The text of an HTML comment right before it."""
    file: str | None = None
    """The name under which the page has the reader save the block."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """The text after a `$`, and the output that the page shows for it; `...` matches anything."""

    block: Block
    text: str
    output: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


@dataclass(frozen=True)
class Page:
    path: Path
    _text: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "Page":
        return cls(path, path.read_text("utf-8"))

    @property
    def name(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix()

    @cached_property
    def blocks(self) -> list[Block]:
        return list(_blocks(self.name, self._text.splitlines()))

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """Line numbers and lines outside fenced blocks."""
        inside = {n for b in self.blocks for n in range(b.line - 1, b.line + len(b.lines) + 1)}
        return [(n, line) for n, line in enumerate(self._text.splitlines(), 1) if n not in inside]

    @property
    def links(self) -> Iterator[tuple[int, str]]:
        for number, line in self.prose:
            for found in _LINK.finditer(_CODE.sub("", line)):
                yield number, found[1]

    @property
    def code(self) -> Iterator[tuple[int, str]]:
        """Words set as code within the text."""
        for number, line in self.prose:
            for found in _CODE.finditer(line):
                yield number, found[2]

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors of the headings, as GitHub makes them."""
        found: set[str] = set()
        for _, line in self.prose:
            heading = re.match(r"#{1,6} +(.+?) *#*$", line)
            if heading is None:
                continue
            base = anchor = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            number = 0
            while anchor in found:
                number += 1
                anchor = f"{base}-{number}"
            found.add(anchor)
        return found


def every_page() -> list[Page]:
    """All Markdown files of the repository, without those of hidden folders."""
    found = (p for p in REPOSITORY.rglob("*.md") if not any(part.startswith(".") for part in _parts(p)))
    return [Page.read(path) for path in sorted(found)]


def commands(block: Block) -> list[Command]:
    """The commands of a `console` block; lines that begin with `>` go on with the command before."""
    texts: list[str] = []
    outputs: list[list[str]] = []
    for line in block.lines:
        if line.startswith("$ "):
            texts.append(line[2:])
            outputs.append([])
        elif line.startswith("> ") and not outputs[-1]:
            texts[-1] += f"\n{line[2:]}"
        else:
            outputs[-1].append(line)
    return [Command(block, text, tuple(output)) for text, output in zip(texts, outputs, strict=True)]


def shows(expected: tuple[str, ...], output: str) -> bool:
    """Whether the page shows this output: `...` alone is any lines, within a line it is any text.

    Spaces count as one: columns are as wide as their values.
    """
    patterns = ["(.*\n)*?" if line.strip() == "..." else _line(line) for line in expected]
    return re.fullmatch("".join(patterns), output if output.endswith("\n") else f"{output}\n") is not None


def _line(expected: str) -> str:
    words = (re.escape(word).replace(re.escape("..."), ".*") for word in expected.split())
    gap = r"[ \t]+"
    return rf"[ \t]*{gap.join(words)}[ \t]*\n"


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        first, indent, fence = at, len(opening[1]), opening[2]
        while at < len(lines) and lines[at].strip() != fence:
            at += 1
        assert at < len(lines), f"{page}:{first}: the block is never closed"
        note, file = _before(lines[: first - 1])
        yield Block(page, first + 1, opening[3], tuple(line[indent:] for line in lines[first:at]), note, file)
        at += 1


def _before(lines: list[str]) -> tuple[str, str | None]:
    """The comment on the line before a block, and the name under which its reader saves it."""
    before = [line for line in lines[-3:] if line.strip()]
    note = _NOTE.match(before[-1].strip()) if before else None
    saved = _SAVED_AS.search(before[-2 if note else -1]) if len(before) > bool(note) else None
    return note[1] if note else "", saved[1] if saved else None


def _parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(REPOSITORY).parts


@cache
def titles_of_tests() -> frozenset[str]:
    """The names of all tests and of their files."""
    files = list((REPOSITORY / "tests").rglob("test_*.py"))
    titles = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))}
    return frozenset(titles | {file.stem for file in files})
