"""A version that is published while a worker scores the one before: each run keeps to its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.models.contract import AddOptions
from scorebeat.producer.versions import publish
from tests.support.fixtures import kill_group
from tests.support.source_tables import BIGINT, INPUTS, fill
from tests.support.system import GATED, MODEL, System, assert_scored_once, children, own_system

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Versions:
    """The same system, with each version's own model for the plain loop."""

    one: System
    two: System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        made.programs.control()
        yield made


@pytest.fixture(scope="module")
def versions(system: System) -> Versions:
    """Version 2 is added, not published; it finds another chance for every flower."""
    iris = load_iris()
    second = DecisionTreeClassifier(max_depth=2, random_state=0).fit(iris.data, iris.target_names[iris.target])
    assert not np.isclose(system.model.predict_proba(iris.data), second.predict_proba(iris.data), atol=1e-9).any()
    file = system.programs.folder / "second.skops"
    skops.io.dump(second, file)
    publish.add(system.p, file, MODEL, "test", AddOptions(INPUTS))
    return Versions(system, replace(system, model=second))


@pytest.fixture(autouse=True)
def worker(system: System, versions: Versions) -> Iterator[None]:  # noqa: ARG001 -- version 1 is published first
    """A worker of one process: what it loaded for one run it has for the next."""
    started = system.programs.worker("cpu")
    yield
    kill_group(started)
    publish.publish_anyway(system.p, MODEL, 1, "test")


def test_a_run_goes_on_with_its_version_after_another_is_published(system: System, versions: Versions) -> None:
    job = system.job("published_meanwhile", where=GATED)
    with system.closed_gate():
        first = system.enqueue(job)
        system.at_the_gate()  # with version 1 loaded
        statement = "SELECT claimed_pid FROM scorebeat.batches WHERE run_id = :run AND state = 'claimed'"
        ((process,),) = system.query(statement, run=first)
        publish.publish_anyway(system.p, MODEL, 2, "test")
        second = system.enqueue(job)

    assert system.until_finished(first) is RunState.SUCCEEDED
    assert system.until_finished(second) is RunState.SUCCEEDED
    assert _one_worker(system, first, second)
    assert_scored_once(versions.one, job, version=1)
    assert_scored_once(versions.two, job, version=2)
    assert _shown(system, job) == _stored(system, job, 2)
    assert process in children(system.worker_of(second))


@pytest.mark.wide
def test_a_worker_that_has_both_versions_scores_the_one_that_was_rolled_back_to(
    system: System, versions: Versions
) -> None:
    job = system.job("rolled_back")
    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    publish.publish_anyway(system.p, MODEL, 2, "test")
    assert system.until_finished(system.enqueue(job)) is RunState.SUCCEEDED
    assert_scored_once(versions.two, job, version=2)

    publish.rollback(system.p, MODEL, "test")
    fill(system.engine, job.name, BIGINT, 200, 40)
    last = system.enqueue(job)

    assert system.until_finished(last) is RunState.SUCCEEDED
    assert len(_stored(system, job, 2)) == 200
    assert_scored_once(versions.one, job, version=1)
    assert _shown(system, job) == _stored(system, job, 1)


def _one_worker(system: System, *runs: int) -> bool:
    return len({by for run in runs for _, _, by in system.batches(run)}) == 1


def _shown(system: System, job: Job) -> list[tuple[object, ...]]:
    return system.query(f"SELECT id, setosa, versicolor, virginica FROM predictions.{job.name} ORDER BY id")


def _stored(system: System, job: Job, version: int) -> list[tuple[object, ...]]:
    table = f"predictions.{job.name}__{MODEL}_v{version}"
    return system.query(f"SELECT id, setosa, versicolor, virginica FROM {table} ORDER BY id")
