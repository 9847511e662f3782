"""`celery -A worker worker|beat|flower`, as any Celery user types them."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from urllib.error import URLError

import pytest

from scorebeat.core.settings import PREFIX
from scorebeat.core.states import RunState
from tests.support.fixtures import REPOSITORY, environment, free_port, wait_for
from tests.support.system import System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

CELERY = Path(sys.executable).with_name("celery")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def plain(system: System, elsewhere: Path) -> "list[Popen[bytes]]":
    """A plain worker from the repository's folder, and a plain beat from another one."""
    return [_plain(system, REPOSITORY, "worker"), _plain(system, elsewhere, "beat")]


@pytest.fixture(scope="module")
def flower(system: System, elsewhere: Path, plain: "list[Popen[bytes]]") -> str:  # noqa: ARG001
    """Flower's URL; it hears what the workers do from then on."""
    port = free_port()
    _plain(system, elsewhere, "flower", FLOWER_PORT=str(port), FLOWER_UNAUTHENTICATED_API="true")
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: _get(f"{url}/healthcheck") == b"OK")
    return url


def test_a_plain_worker_and_a_plain_beat_are_a_whole_system(system: System, plain: "list[Popen[bytes]]") -> None:
    job = system.job("plain")

    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    assert_scored_once(system, job)
    assert [process.poll() for process in plain] == [None, None]


def test_flower_shows_the_batches_of_a_run(system: System, flower: str) -> None:
    wait_for(lambda: len(json.loads(_get(f"{flower}/api/workers?refresh=1"))) == 1)
    job = system.job("watched")
    run = system.enqueue(job)

    assert system.until_finished(run) is RunState.SUCCEEDED
    wait_for(lambda: _scored(flower) >= 4)


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
@pytest.mark.parametrize("unset", ["BROKER_URL", "DATABASE_URL"])
def test_a_missing_url_is_named_without_a_traceback(system: System, elsewhere: Path, command: str, unset: str) -> None:
    variables = environment(system.settings.model_copy(update={"data": elsewhere / "none"}))
    del variables[f"{PREFIX}{unset}"]

    call = [str(CELERY), "-A", "scorebeat.worker", command]
    ended = subprocess.run(call, cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert f"{PREFIX}{unset} is not set" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def _plain(system: System, folder: Path, command: str, **extra: str) -> "Popen[bytes]":
    """`celery -A worker COMMAND` with not one option, from the folder."""
    log = system.programs.folder / f"plain-{command}.log"
    with log.open("wb") as output:
        process = Popen(
            [CELERY, "-A", "scorebeat.worker", command],
            cwd=folder,
            env=environment(system.settings) | extra,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    system.programs.started.append((process, log))
    return process


def _get(url: str) -> bytes:
    """The response's body; empty while nobody responds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 -- our own Flower
            body: bytes = response.read()
            return body
    except URLError:
        return b""


def _scored(flower: str) -> int:
    tasks = json.loads(_get(f"{flower}/api/tasks?limit=1000") or b"{}")
    return sum(task["name"] == "scorebeat.score" and task["state"] == "SUCCESS" for task in tasks.values())
