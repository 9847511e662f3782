"""What else uses the ledger while batches are scored: a planner, the control worker, Flower, the API, a scrape."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy.exc import DBAPIError

from benchmarks.ledger.workers import QUEUE, Sample
from scorebeat.api.routes import runs as api_runs
from scorebeat.api.service import Service
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.connect.sql import KeyRange
from scorebeat.db.ledger import batches, plan_lease, runs
from scorebeat.db.ledger.batches import NewBatch
from scorebeat.db.predictions import prediction_sets
from scorebeat.db.processes import workers
from scorebeat.db.reports import metrics, results, status
from scorebeat.db.reports.pages import run_pages
from scorebeat.monitor import pages
from scorebeat.producer.context import Producer
from scorebeat.producer.control import control_round
from scorebeat.producer.control.plan import GROUP_ROWS
from scorebeat.producer.dispatch import dispatch

ROUND_SECONDS = 1.0
LOOK_SECONDS = 0.5
"""Four open pages, each of which loads itself again every two seconds."""
SCRAPE_EACH = 10
"""Looks between two scrapes, which makes 5 s."""


@dataclass(frozen=True)
class Others:
    """What these processes share."""

    settings: Settings
    jobs: tuple[Job, ...]
    model: str
    batches_a_run: int
    batch_rows: int


def plan(o: Others, ready: Any, stop: Any, found: Any) -> None:
    """Open and plan a run of each job that has none, so that there are always batches.

    As `producer.control.plan`, but the keys of batches are made up, and nothing of the jobs' queries is read.
    """
    p, samples = Producer(o.settings, "plan@sim"), list[Sample]()
    ready.wait()
    while not stop.is_set():
        busy = False
        for job in o.jobs:
            began = time.monotonic()
            if not stop.is_set() and open_run(p, o, job):
                busy = True
                samples.append(("plan a run", time.monotonic(), time.monotonic() - began))
        if not busy:
            time.sleep(0.05)
    p.close()
    found.put((samples, 0.0))


def open_run(p: Producer, o: Others, job: Job) -> bool:
    """Open and plan a run; False if the job has an open one."""
    lease = p.settings.claim_ttl
    with p.engine.begin() as connection:
        target = prediction_sets.find(connection, job.name, o.model, 1)
        assert target is not None, job.name
        if runs.open_run(connection, job.name, o.model, 1) is not None:
            return False
        run_id = runs.start(connection, runs.Start(job, o.model, 1, target.id, "benchmark"), lease)
        assert run_id is not None, job.name
    with p.engine.begin() as connection:
        attempt = plan_lease.claim(connection, run_id, p.name, lease)
        assert attempt is not None, run_id
    for first in range(1, o.batches_a_run + 1, GROUP_ROWS):
        last = min(first + GROUP_ROWS, o.batches_a_run + 1)
        group = [NewBatch(number, o.batch_rows, _range(number, o.batch_rows)) for number in range(first, last)]
        with p.engine.begin() as connection:
            plan_lease.require(connection, run_id, attempt, lease)
            batches.add(connection, run_id, job.queue, p.settings.max_attempts, group)
        dispatch(p, job.queue)
    with p.engine.begin() as connection:
        return plan_lease.finish(connection, run_id, attempt)


def _range(number: int, rows: int) -> KeyRange:
    return KeyRange((str(number * rows),), (str((number + 1) * rows - 1),))


def control(o: Others, ready: Any, stop: Any, found: Any) -> None:
    """The control worker: a round each second, and its own sign of life."""
    p, samples = Producer(o.settings, "control@sim"), list[Sample]()
    ready.wait()
    while not stop.is_set():
        began = time.monotonic()
        with p.engine.begin() as connection:
            workers.seen(connection, "control@sim/1", ["control", "plan"], "cpu", 1)
        done = control_round.run_once(p)
        samples.append(("control round", time.monotonic(), time.monotonic() - began))
        samples += [("rescued", time.monotonic(), 0.0)] * done.rescued
        time.sleep(max(0.0, ROUND_SECONDS - (time.monotonic() - began)))
    with p.engine.begin() as connection:
        workers.gone(connection, "control@sim/1")
    p.close()
    found.put((samples, 0.0))


def look(o: Others, ready: Any, stop: Any, found: Any) -> None:
    """Data of Flower's pages and of the API about runs, by the functions that make them, without HTTP and templates."""
    p, service, samples = Producer(o.settings, "flower@sim"), Service(o.settings), list[Sample]()
    run = 0  # one of the newest

    def flower(data: Callable[[Any], Any]) -> None:
        with run_pages.reading(p.engine) as connection:
            data(connection)

    def scrape() -> None:
        with results.reading(service.engine) as connection:
            metrics.read(connection)

    looks: dict[str, Callable[[], Any]] = {
        "Runs page": lambda: flower(pages.list_of_runs),
        "page of a run": lambda: flower(lambda connection: pages.details_of_run(connection, run, pages.Where())),
        "API: runs": lambda: api_runs.listing(service, api_runs.RunsQuery()),
        "API: a run": lambda: api_runs.one(service, run),
    }
    ready.wait()
    for number in count():
        if stop.is_set():
            break
        began = time.monotonic()
        with p.engine.connect() as connection:
            newest = status.newest(connection, 20)
        run = newest[number % len(newest)].id
        _timed(samples, looks)
        if number % SCRAPE_EACH == 0:
            _timed(samples, {"metrics": scrape})
        time.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - began)))
    service.close()
    p.close()
    found.put((samples, 0.0))


def _timed(samples: list[Sample], looks: dict[str, Callable[[], Any]]) -> None:
    for name, read in looks.items():
        began = time.monotonic()
        try:
            read()
        except DBAPIError as error:  # a page that takes too long shows an error, too
            samples.append((f"{name} failed: {str(error.orig).splitlines()[0]}", time.monotonic(), 0.0))
        samples.append((name, time.monotonic(), time.monotonic() - began))


__all__ = ["QUEUE", "Others", "control", "look", "plan"]
