"""Parameters of a run stay what they are, whatever happens to its workers and its job meanwhile."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from scorebeat.core.states import RunState
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.requeue import requeue
from tests.support.fixtures import kill_group, wait_for
from tests.support.source_tables import INPUTS
from tests.support.system import GATED, System, own_system

pytestmark = pytest.mark.slow

DUE = datetime(2026, 7, 1, 2, 30, 0, 123456, tzinfo=UTC)
FIRST, *REST = INPUTS
OF_THE_RUN = f"(extract(epoch FROM :due_at) - {DUE.timestamp()!r} + :run_id + :offset)::float8"
"""The number of the run and the offset, if the due time is the requested one."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        yield made


def test_a_runs_due_time_stays_though_its_worker_is_killed_and_its_job_changed(system: System) -> None:
    plain = system.job("daily", rows=200, batch_rows=100)
    system.execute(f"UPDATE daily SET {REST[0]} = NULL WHERE id = (SELECT min(id) FROM daily)")
    query = f"SELECT id, {OF_THE_RUN} AS {FIRST}, {', '.join(REST)} FROM daily WHERE {GATED}"
    job = plain.model_validate({**plain.model_dump(mode="json"), "query": query, "parameters": {"offset": 0.25}})
    system.apply(job)
    first = system.programs.worker("cpu")
    with system.closed_gate():
        run = enqueue(system.p, Request(job.name, "test", due_at=DUE)).run_id
        system.at_the_gate()
        system.apply(plain.model_validate({**job.model_dump(mode="json"), "parameters": {"offset": 5.0}}))
        kill_group(first)
        system.programs.worker("cpu")
        wait_for(lambda: any(by and by.startswith("worker2") for _, _, by in system.batches(run)))
    assert system.until_finished(run, 60) is RunState.PARTIAL
    assert sorted(attempt for _, attempt, _ in system.batches(run)) == [1, 2]
    system.execute(f"UPDATE daily SET {REST[0]} = 3 WHERE id = (SELECT min(id) FROM daily)")
    assert requeue(system.p, run, "test") == 1

    assert system.until_finished(run, 60) is RunState.SUCCEEDED
    inputs = system.query(f"SELECT id, {', '.join(REST)} FROM daily ORDER BY id")
    expected = system.model.predict_proba(np.array([(run + 0.25, *row[1:]) for row in inputs]))
    found = system.query("SELECT id, setosa, versicolor, virginica FROM predictions.daily ORDER BY id")
    assert [row[0] for row in found] == [row[0] for row in inputs]
    assert np.allclose([row[1:] for row in found], expected, rtol=0, atol=1e-9)
