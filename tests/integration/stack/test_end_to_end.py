"""The whole path over real rows: beat, planner, control and workers, for every kind of key."""

from collections.abc import Iterator

import pytest

from scorebeat.core.states import RunState
from tests.support.source_tables import KEYS, fill
from tests.support.system import System, assert_scored_once, own_system


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        made.programs.worker("cpu", processes=2)
        yield made


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("keys", KEYS)
def test_each_row_gets_the_prediction_of_a_plain_loop(system: System, keys: str) -> None:
    case = KEYS[keys]
    name = f"rows_{keys.replace(' ', '_')}"
    job = system.job(name, case, rows=300, batch_rows=70)

    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    assert_scored_once(system, job)

    fill(system.engine, name, case, 300, 45)
    run = system.enqueue(job)
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)
    assert system.query("SELECT sum(rows_scored) FROM scorebeat.batches WHERE run_id = :id", id=run) == [(45,)]
