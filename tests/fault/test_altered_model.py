"""A model file that was altered after it was recorded is never loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scorebeat.core.states import RunState
from scorebeat.producer.requests.requeue import requeue
from tests.support.system import MODEL, System, assert_scored_once, own_system

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        made.programs.worker("cpu")
        yield made


def test_nothing_is_scored_by_an_altered_model_and_a_restored_one_scores_all(system: System) -> None:
    job = system.job("altered")
    file = Path(system.settings.artifacts) / MODEL / "1" / "model.skops"
    original = file.read_bytes()
    file.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))

    run = system.enqueue(job)
    assert system.until_finished(run) is RunState.FAILED
    assert {state for state, *_ in system.batches(run)} == {"dead"}
    ((error,),) = system.query("SELECT DISTINCT error FROM scorebeat.batches WHERE run_id = :id", id=run)
    assert f"model {MODEL}/1 was altered or damaged after it was added" in error
    assert system.query("SELECT sum(rows_scored) FROM scorebeat.batches WHERE run_id = :id", id=run) == [(0,)]

    file.write_bytes(original)
    assert requeue(system.p, run, "test") == 4
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)
