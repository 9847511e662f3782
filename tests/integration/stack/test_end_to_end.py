"""The whole path over real rows: beat, planner, control and workers, for every kind of key."""

from collections.abc import Iterator

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import wait_for
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


def test_a_canary_goes_through_control_and_a_worker(system: System) -> None:
    system.job("rare", rows=50, canary={"every": "1d", "rows": 20})
    ended = "SELECT rows, failure FROM scorebeat.canaries WHERE job = 'rare' AND reported_at IS NOT NULL"
    wait_for(lambda: system.query(ended))
    assert system.query(ended) == [(20, None)]
    assert system.query("SELECT count(*) FROM predictions.rare") == [(0,)]


def test_the_truth_is_read_by_the_control_worker(system: System) -> None:
    job = system.job("known", rows=60, truth="SELECT id, 'setosa' AS label FROM known")
    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    wait_for(
        lambda: system.query("SELECT FROM scorebeat.truth_readings WHERE job = 'known' AND finished_at IS NOT NULL")
    )
    system.execute("UPDATE scorebeat.truth_readings SET next_at = now()")
    wait_for(lambda: system.query("SELECT rows FROM scorebeat.quality WHERE job = 'known'") == [(60,)])
    assert system.query("SELECT rows, (metrics ->> 'accuracy')::float8 FROM scorebeat.quality WHERE job = 'known'") == (
        system.query("SELECT 60, avg((label = 'setosa')::int)::float8 FROM predictions.known")
    )
