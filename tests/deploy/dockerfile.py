"""The Dockerfile's stages, each with what it takes over from the stage that it begins with."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
_ASSIGNED = re.compile(r'([A-Z_]+)="([^"]*)"')


@dataclass(frozen=True)
class Stage:
    """One stage; its instructions begin with those of the stage that it is made from."""

    name: str
    base: str
    """The image that its first stage is made from."""
    instructions: tuple[tuple[str, str], ...]

    def all(self, word: str) -> list[str]:
        return [value for instruction, value in self.instructions if instruction == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]

    def program(self, word: str) -> list[str]:
        """ENTRYPOINT or CMD in its exec form, the one that passes signals to the program itself."""
        words = json.loads(self.last(word))
        assert isinstance(words, list), words
        return [str(one) for one in words]

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for line in self.all("ENV") for name, value in _ASSIGNED.findall(line)}


def stages() -> dict[str, Stage]:
    """The stages by their names, in the file's order."""
    found: dict[str, Stage] = {}
    for base, name, own in _split():
        before = found.get(base)
        inherited = before.instructions if before else ()
        found[name] = Stage(name, before.base if before else base, inherited + own)
    return found


def _split() -> Iterator[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Base, name and own instructions of each stage."""
    parser = DockerfileParser(path=str(DOCKERFILE))
    lines = [(one["instruction"], one["value"]) for one in parser.structure if one["instruction"] != "COMMENT"]
    starts = [at for at, (instruction, _) in enumerate(lines) if instruction == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        base, _, name = lines[start][1].split()
        yield base, name, tuple(lines[start + 1 : end])
