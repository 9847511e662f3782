"""A browser window before a Flower with our tab, real workers behind it, and runs to look at."""

from collections.abc import Iterator

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from tests.browser.chromium import MISSING, Browser, chromium, installed
from tests.support.flower_program import Flower, poisoned_job, start_flower, start_worker
from tests.support.ledger_rows import add_batch, add_run
from tests.support.system import System, own_system


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Skips where there is no browser."""
    if installed() is None:
        pytest.skip(MISSING)
    with own_system(tmp_path_factory.mktemp("system")) as made:
        start_worker(made)
        yield made


@pytest.fixture(scope="module")
def flower(s: System) -> Flower:
    return start_flower(s)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    window.resize(1280)
    yield window
    window.open("about:blank")  # an open page goes on sending requests


def mend(s: System, job: Job, row: int) -> None:
    """The row's value is one that the model takes."""
    s.execute(f"UPDATE {job.name} SET x = x + 1000000 WHERE id = :row", row=row)


def partial_run(s: System, name: str, row: int = 7) -> tuple[Job, int]:
    """A run that ended with this row in quarantine."""
    job = poisoned_job(s, name, 40, {"raise": [row]}, batch_rows=10, error_threshold=-1)
    run = s.enqueue(job)
    assert s.until_finished(run) is RunState.PARTIAL
    return job, run


def a_dead_batch(s: System, name: str, **columns: object) -> int:
    with s.engine.begin() as connection:
        run = add_run(connection, "partial", name)
        add_batch(connection, run, "dead", queue="nobody", **columns)
    s.execute("UPDATE scorebeat.jobs SET removed_at = now() WHERE name = :name", name=name)  # it has no table
    return run
