"""docker-compose.yml as `docker compose` reads it: variables filled in, one service after the other."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # publishes no types

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
EXAMPLE = REPOSITORY / "deploy/compose.env.example"
SECRETS = ("OWNER_PASSWORD", "RUN_PASSWORD", "BROKER_PASSWORD", "FLOWER_LOGIN", "API_TOKEN")
"""The variables that must be set before anything starts."""
HEALTHY, DONE = "service_healthy", "service_completed_successfully"

_SECONDS = {"s": 1, "m": 60}
_VARIABLE = re.compile(r"(\w+)(?::([-?])(.*))?", re.DOTALL)


class Unset(Exception):
    """A variable that must be set is not; `docker compose` stops with these words."""


@dataclass(frozen=True)
class Service:
    """One service of the file."""

    name: str
    definition: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """The service's variables, without those of its `env_file`s."""
        return dict(self.definition.get("environment", {}))

    @property
    def env_files(self) -> dict[str, bool]:
        """Names of the files with more variables, and whether nothing starts without them."""
        return {one["path"]: one.get("required", True) for one in self.definition.get("env_file", ())}

    @property
    def needs(self) -> dict[str, str]:
        """The services that it waits for, and what it waits for."""
        return {name: how["condition"] for name, how in self.definition.get("depends_on", {}).items()}

    @property
    def health(self) -> list[str] | None:
        """The health check's program and its arguments; None if it is switched off."""
        check = self.definition.get("healthcheck", {})
        return None if check.get("disable") else check["test"][1:]

    @property
    def health_timeout(self) -> float:
        return seconds(self.definition["healthcheck"]["timeout"])

    @property
    def grace(self) -> float:
        """Seconds from the signal to stop to SIGKILL."""
        return seconds(self.definition.get("stop_grace_period", "10s"))

    @property
    def target(self) -> str | None:
        """The stage of the Dockerfile that its image is, by the image's tag; None for another's image."""
        name, _, tag = self.definition["image"].partition(":")
        return tag if name == "scorebeat" else None

    @property
    def mounts(self) -> dict[str, str]:
        """Paths in the container, and the volume or folder that is there."""
        return {target: source for source, target, _ in self._volumes}

    @property
    def writable(self) -> set[str]:
        """Volumes and folders that it may write."""
        return {source for source, _, mode in self._volumes if mode != "ro"}

    @property
    def _volumes(self) -> list[tuple[str, str, str]]:
        found = (one.split(":") for one in self.definition.get("volumes", []))
        return [(source, target, mode[0] if mode else "rw") for source, target, *mode in found]


@dataclass(frozen=True)
class File:
    """The whole file, its variables filled in."""

    content: Mapping[str, Any]

    @cached_property
    def services(self) -> dict[str, Service]:
        return {name: Service(name, definition) for name, definition in self.content["services"].items()}

    @property
    def long_running(self) -> list[Service]:
        return [one for one in self.services.values() if one.definition["restart"] != "no"]

    @property
    def ours(self) -> list[Service]:
        """The services that run Scorebeat."""
        return [one for one in self.services.values() if one.target]


def read(variables: Mapping[str, str]) -> File:
    """The file with these variables. Raises Unset."""
    return File(_filled(_document(), variables))


def fill(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-instead}`, `${NAME:?message}`, one in another, and `$$`. Raises Unset."""
    done, at = "", 0
    while at < len(text):
        if text.startswith("$$", at):
            done, at = f"{done}$", at + 2
        elif text.startswith("${", at):
            end = _end(text, at)
            done, at = done + _value(text[at + 2 : end], variables), end + 1
        else:
            assert text[at] != "$", f"{text}: a $ alone"
            done, at = done + text[at], at + 1
    return done


def seconds(duration: str) -> float:
    number, unit = duration[:-1], duration[-1]
    return float(number) * _SECONDS[unit]


def variables_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, `-` or `?`, and the text behind it, of each variable in the text, inner ones too."""
    for found in re.finditer(r"(?<!\$)\$\{", text):
        named = _VARIABLE.fullmatch(text[found.end() : _end(text, found.start())])
        assert named is not None, text
        yield named[1], named[2] or "", named[3] or ""


@cache
def _document() -> Any:
    return yaml.load(COMPOSE.read_text("utf-8"), yaml.CSafeLoader)


def _filled(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, variables) for value in node]
    return fill(node, variables) if isinstance(node, str) else node


def _value(inside: str, variables: Mapping[str, str]) -> str:
    named = _VARIABLE.fullmatch(inside)
    assert named is not None, inside
    name, how, text = named.groups()
    if variables.get(name):
        return variables[name]
    if how == "?":
        raise Unset(f"required variable {name} is missing a value: {fill(text, variables)}")
    assert how == "-", f"{name} has neither a default nor a message"
    return fill(text, variables)


def _end(text: str, start: int) -> int:
    """The position at which the brace that opens at `start` closes."""
    depth, at = 0, start
    while at < len(text):
        depth += text.startswith("${", at) - (text[at] == "}")
        if depth == 0:
            return at
        at += 1
    raise AssertionError(f"{text}: a brace is never closed")
