"""Flower beside a system of a module's own, and runs straight in the ledger."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.flower_program import Flower, start_flower
from tests.support.ledger_rows import add_batch, add_run
from tests.support.system import System, own_system

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def flower(s: System) -> Flower:
    return start_flower(s)


@pytest.fixture(scope="module")
def guarded(s: System) -> Flower:
    return start_flower(s, login="ann:secret", url_prefix="/watch")


def a_run(s: System, state: str, name: str, *batches: str, **columns: Any) -> int:
    """A run of a job of its own, with batches in these states."""
    with s.engine.begin() as connection:
        run = add_run(connection, state, name)
        for number, batch in enumerate(batches, 1):
            add_batch(connection, run, batch, number=number, **(columns if batch == "dead" else {}))
    return run


def states(s: System, run: int) -> list[str]:
    return [state for state, *_ in s.batches(run)]


def recorded(s: System, subject: str) -> list[tuple[Any, ...]]:
    return s.query("SELECT action, by FROM scorebeat.actions WHERE subject = :subject ORDER BY id", subject=subject)
