"""A worker that lacks the model's files releases its batches: others score them, and people see who cannot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.processes import unloadable
from tests.support.fixtures import kill_group, wait_for
from tests.support.system import MODEL, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        yield made


def test_a_worker_without_the_model_leaves_its_batches_to_those_that_have_it(system: System, tmp_path: Path) -> None:
    blind = system.programs.worker("cpu", name="blind", SCOREBEAT_ARTIFACTS=str(tmp_path / "empty"))
    blind_name = wait_for(lambda: system.query("SELECT name FROM scorebeat.workers WHERE name LIKE 'blind%'"))[0][0]
    sighted = system.programs.worker("cpu", name="sighted")
    wait_for(lambda: system.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE 'sighted%'"))
    job = system.job("left_to_others", rows=2_000, batch_rows=20)

    run = system.enqueue(job)
    wait_for(lambda: f"batch.left_to_others run={run}" in system.programs.log(blind), within=120)
    with system.engine.connect() as connection:
        (reported,) = unloadable.known(connection)
    assert (reported.worker, reported.model) == (blind_name, f"{MODEL}/1")
    assert "is not there" in reported.reason

    assert system.until_finished(run, within=180) is RunState.SUCCEEDED
    assert_scored_once(system, job)
    assert {by for *_, by in system.batches(run)} != {blind_name}
    kill_group(sighted)
    kill_group(blind)


@pytest.mark.wide
def test_a_worker_that_is_alone_reports_why_nothing_can_be_scored(system: System, tmp_path: Path) -> None:
    alone = system.programs.worker("cpu", name="alone", SCOREBEAT_ARTIFACTS=str(tmp_path / "empty"))
    wait_for(lambda: system.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE 'alone%'"))
    job = system.job("of_nobody")

    run = system.enqueue(job)

    assert system.until_finished(run, within=120) is RunState.FAILED
    ((error,),) = system.query("SELECT DISTINCT error FROM scorebeat.batches WHERE run_id = :id", id=run)
    assert "is not there" in error
    kill_group(alone)
