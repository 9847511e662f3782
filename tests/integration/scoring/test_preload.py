"""A worker's parent imports the libraries of its jobs' models once, for all the processes that it forks."""

from pathlib import Path
from subprocess import Popen

import pytest
from sqlalchemy import make_url

from scorebeat.db.ledger import model_versions
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish
from scorebeat.worker.lifecycle.preload import preload
from tests.support.cli_fixtures import Cli, adder, job, pairs, scorebeat, write_adder
from tests.support.fixtures import Programs, wait_for
from tests.support.system import children

pytestmark = pytest.mark.wide

__all__ = ["adder", "job", "pairs", "scorebeat"]
LIBRARY = "/sklearn/"


def start(programs: Programs, queue: str) -> "Popen[bytes]":
    """A new Python: a fork would have all libraries."""
    return programs.worker(queue, processes=2, PYTHONHASHSEED="0")


def has_library(pid: int) -> bool:
    return LIBRARY in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.usefixtures("job")
def test_processes_have_the_library_of_their_jobs_models_before_a_batch_comes(programs: Programs) -> None:
    worker, other = start(programs, "cpu"), start(programs, "elsewhere")
    for one in (worker, other):
        wait_for(lambda one=one: " ready." in programs.log(one))  # type: ignore[misc]  # mypy knows no default of a lambda

    assert "library.preloaded format=skops" in programs.log(worker)
    assert [has_library(pid) for pid in children(worker.pid)] == [True, True]
    assert [has_library(pid) for pid in children(other.pid)] == [False, False]


def test_the_formats_are_those_of_applied_jobs_on_the_queues(
    scorebeat: Cli, job: str, producer: Producer, tmp_path: Path
) -> None:
    publish.add(producer, write_adder(tmp_path / "idle.skops", "x"), "idle", "test")

    def on(*queues: str) -> set[str]:
        with producer.engine.connect() as connection:
            return model_versions.formats_on(connection, queues)

    assert (on("cpu"), on("gpu", "cpu"), on("gpu"), on()) == ({"skops"}, {"skops"}, set(), set())
    assert scorebeat("jobs", "drop", job, "--yes").exit_code == 0
    assert on("cpu") == set()


def test_a_ledger_that_cannot_be_queried_changes_nothing(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = make_url(str(programs.settings.database_url)).set(database="nowhere")
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", nowhere.render_as_string(hide_password=False))
    monkeypatch.setenv("SCOREBEAT_BROKER_URL", str(programs.settings.broker_url))

    with caplog.at_level("WARNING", "scorebeat"):
        preload(["cpu"])

    assert [record.getMessage() for record in caplog.records] == ["library.not_preloaded"]
