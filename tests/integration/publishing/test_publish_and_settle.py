"""Publishing beside a run that ends, or a run that begins: the view never goes back to the older version."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import jobs
from scorebeat.db.predictions import views
from scorebeat.producer.control.upkeep.settle import settle
from scorebeat.producer.requests.apply import ApplyOptions, apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import prediction_tables, publish
from scorebeat.worker.scoring import score
from tests.support.fixtures import wait_for
from tests.support.poison_fixtures import MODEL, Points, points

__all__ = ["points"]


@pytest.fixture
def job(points: Points) -> Job:
    """Version 1 is scored and shown; version 2 is there, and not published."""
    points.fill(20)
    points.model({})
    job = points.job(rescore="every-run")
    points.scored(job)
    points.model({"raise": [10**6]})
    return job


def switch(points: Points, connection: Connection, version: int) -> None:
    publish._publish(points.producer, connection, MODEL, version, "ann")


def shown(points: Points, job: Job) -> str:
    with points.engine.connect() as connection:
        return str(views._table_of(connection, job.name)).partition("__")[2]


def ended(points: Points, job: Job, monkeypatch: pytest.MonkeyPatch) -> int:
    """A run of version 1 whose batches are all final, to be settled."""
    run = points.planned(job)
    with monkeypatch.context() as patch:
        patch.setattr(score, "_settle", lambda *_: None)
        for batch_id in points.pending(run):
            points.attempt(batch_id)
    return run


def test_a_run_that_ends_while_a_version_is_published_does_not_take_the_view_back(
    points: Points, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(points, job, monkeypatch)

    with points.engine.begin() as publishing, ThreadPoolExecutor(1) as pool:
        switch(points, publishing, 2)
        meanwhile = pool.submit(settle, points.producer, run)
        waiting = wait_for(lambda: meanwhile.done() or _someone_waits(points))
        publishing.commit()
        state = meanwhile.result()
    if state is None:  # it left it to the next control tick
        state = settle(points.producer, run)

    assert waiting
    assert state is RunState.SUCCEEDED
    assert "v2" in shown(points, job)


def test_a_run_of_a_version_that_its_job_left_meanwhile_does_not_take_the_view_back(
    points: Points, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(points, job, monkeypatch)
    left = job.model_copy(update={"model": f"{MODEL}/2"})
    apply(points.producer, [left], "ann", ApplyOptions(force=True))  # readers see what that version made: nothing yet

    assert settle(points.producer, run) is RunState.SUCCEEDED

    assert "v2" in shown(points, job)


def test_a_run_that_ends_while_its_job_is_changed_waits_for_that(
    points: Points, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(points, job, monkeypatch)

    with points.engine.begin() as applying, ThreadPoolExecutor(1) as pool:
        jobs.apply(applying, [job.model_copy(update={"model": f"{MODEL}/2"})], "ann")
        # at once: a lock that it waited for would hold up all that control does
        assert pool.submit(settle, points.producer, run).result(timeout=5) is None

    assert settle(points.producer, run) is RunState.SUCCEEDED


def test_a_version_is_published_after_the_run_that_is_being_closed(
    points: Points, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(points, job, monkeypatch)
    real, chosen, go = views.show_generation, threading.Event(), threading.Event()

    def slowly(connection: Connection, name: str, target: Any) -> None:
        chosen.set()
        assert go.wait(10)
        real(connection, name, target)

    with ThreadPoolExecutor(2) as pool, monkeypatch.context() as patch:
        patch.setattr(views, "show_generation", slowly)
        closing = pool.submit(settle, points.producer, run)
        assert chosen.wait(10)
        publishing = pool.submit(publish.publish_anyway, points.producer, MODEL, 2, "ann")
        wait_for(lambda: publishing.done() or _someone_waits(points))
        go.set()

        assert closing.result() is RunState.SUCCEEDED
        assert publishing.result() == [job.name]

    assert "v2" in shown(points, job)


def test_a_run_that_begins_while_a_version_is_published_does_not_take_the_view_back(
    points: Points, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.sql(f"DROP VIEW predictions.{job.name}")  # so that the run has one to make
    real = prediction_tables.show
    publishing: list[Future[list[str]]] = []

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:

        def publish_first(*arguments: Any) -> None:
            if not publishing:
                publishing.append(pool.submit(publish.publish_anyway, points.producer, MODEL, 2, "ann"))
                wait_for(lambda: publishing[0].done() or _someone_waits(points))
            real(*arguments)

        patch.setattr(prediction_tables, "show", publish_first)
        enqueue(points.producer, Request(job.name, "test"))

    assert [one.result() for one in publishing] == [[job.name]]
    assert "v2" in shown(points, job)


def _someone_waits(points: Points) -> bool:
    return bool(
        points.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )[0]
    )
