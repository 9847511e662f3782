"""Beat and the ledger: each due time has one run, however many beats send it, and a missed one is made up."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from subprocess import Popen

import pytest

from scorebeat.core.errors import RunOpen
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.connect import database_clock
from scorebeat.db.ledger import jobs
from scorebeat.producer.context import Producer
from scorebeat.producer.control.ticks import tick
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support.fixtures import wait_for
from tests.support.system import System, assert_scored_once, own_system

pytestmark = pytest.mark.wide

RARELY = "every 1 hour"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def missed(system: System) -> dict[str, Job]:
    """Jobs whose ticks of the last three hours were missed, because nothing ran."""
    made = {
        "missed": system.job("missed", schedule=RARELY, queue="later"),
        "too_late": system.job("too_late", schedule=RARELY, deadline=timedelta(milliseconds=1)),
        "paused": system.job("paused", schedule=RARELY),
        "busy": system.job("busy", schedule=RARELY, queue="later"),
    }
    system.enqueue(made["busy"])  # nobody serves its queue yet, so it stays open
    with system.engine.begin() as connection:
        jobs.pause(connection, "paused", "test", "the source is being repaired")
    system.execute("UPDATE scorebeat.jobs SET last_due_at = last_due_at - interval '3 hours'")
    return made


@pytest.fixture(scope="module")
def beats(system: System, missed: dict[str, Job]) -> "list[Popen[bytes]]":  # noqa: ARG001 -- beat comes after the misses
    """Two beats, and a worker that plans and controls."""
    system.programs.worker("control", "plan", name="control")
    return [system.programs.beat(), system.programs.beat()]


@pytest.mark.usefixtures("beats")
def test_a_missed_tick_is_made_up_once_by_two_beats(system: System, missed: dict[str, Job]) -> None:
    run, due_at = wait_for(lambda: system.query("SELECT id, due_at FROM scorebeat.runs WHERE job = 'missed'"))[0]

    assert _now(system) - due_at < timedelta(hours=1)  # the newest of the three
    system.programs.worker("later", name="later")
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, missed["missed"])
    assert tick.tick(system.p, "missed") is None
    assert tick.make_up(system.p) == 0
    assert system.query("SELECT count(*) FROM scorebeat.runs WHERE job = 'missed'") == [(1,)]


@pytest.mark.usefixtures("beats")
def test_missed_ticks_whose_deadline_has_passed_are_one_failed_run(system: System) -> None:
    statement = "SELECT state, reason FROM scorebeat.runs WHERE job = 'too_late'"
    ((state, reason),) = wait_for(lambda: system.query(statement))

    assert state == "failed"
    assert reason.startswith("missed: 3 due times, from ")
    assert tick.tick(system.p, "too_late") is None
    assert len(system.query(statement)) == 1


@pytest.mark.usefixtures("beats")
@pytest.mark.parametrize(
    ("job", "reason", "runs"),
    [("paused", "paused by test: the source is being repaired", 0), ("busy", "has an open run already", 1)],
)
def test_a_tick_that_cannot_open_a_run_is_recorded_once(system: System, job: str, reason: str, runs: int) -> None:
    skips = "SELECT details FROM scorebeat.actions WHERE action = 'tick.skipped' AND subject = :subject"
    (skipped,) = wait_for(lambda: system.query(skips, subject=f"job {job}"))

    assert reason in skipped[0]["reason"]
    assert system.query("SELECT count(*) FROM scorebeat.runs WHERE job = :job", job=job) == [(runs,)]


def test_a_job_that_is_applied_while_beat_runs_is_seen_within_seconds(
    system: System, beats: "list[Popen[bytes]]"
) -> None:
    wait_for(lambda: any("Sending due task job missed" in system.programs.log(beat) for beat in beats))
    awake = next(beat for beat in beats if "Sending due task job missed" in system.programs.log(beat))

    system.job("applied", schedule="every 1 second")

    wait_for(lambda: "Sending due task job applied" in system.programs.log(awake))
    wait_for(lambda: system.query("SELECT 1 FROM scorebeat.runs WHERE job = 'applied'"))


def test_a_due_time_that_two_beats_send_has_one_run(system: System, beats: "list[Popen[bytes]]") -> None:
    system.job("often", schedule="every 1 second", queue="nobody")
    wait_for(lambda: all(system.programs.log(beat).count("Sending due task job often") >= 3 for beat in beats))

    statement = (
        "SELECT due_at FROM scorebeat.runs WHERE job = 'often' UNION ALL"
        " SELECT CAST(details ->> 'due_at' AS timestamptz) FROM scorebeat.actions"
        " WHERE action = 'tick.skipped' AND subject = 'job often'"
    )
    rows = wait_for(lambda: found if len(found := system.query(statement)) >= 3 else [])
    assert len(set(rows)) == len(rows)


@pytest.mark.usefixtures("beats")
def test_two_beats_and_ten_concurrent_enqueues_make_one_run(system: System) -> None:
    job = system.job("wanted", queue="wanted")
    system.execute("UPDATE scorebeat.jobs SET last_due_at = last_due_at - interval '3 hours' WHERE name = 'wanted'")
    others = [system.programs.start("producer", "wanted") for _ in range(5)]
    system.apply(job.model_copy(update={"schedule": RARELY}))
    with ThreadPoolExecutor(5) as threads:
        opened = sum(threads.map(lambda _: _enqueued(system.p), range(5)))
    opened += sum(other.wait(30) == 0 for other in others)
    ticked = "SELECT 1 FROM scorebeat.jobs WHERE name = 'wanted' AND last_due_at > now() - interval '1 hour'"
    wait_for(lambda: system.query(ticked))

    ((run, by),) = system.query("SELECT id, created_by FROM scorebeat.runs WHERE job = 'wanted'")
    assert opened == (by != "beat")
    system.programs.worker("wanted", name="wanted")
    assert system.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(system, job)


def test_ten_concurrent_enqueues_with_one_run_key_return_one_run(system: System) -> None:
    system.job("keyed", queue="nobody")
    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(lambda _: enqueue(system.p, Request("keyed", "test", run_key="night")), range(10)))

    assert len({one.run_id for one in made}) == 1
    assert sum(one.is_new for one in made) == 1


def test_beat_that_starts_with_an_emptied_jobs_file_reports_it_and_keeps_the_jobs(system: System) -> None:
    system.job("kept")
    system.settings.jobs.write_text("")
    try:
        beat = system.programs.beat()
        wait_for(lambda: "jobs.not_applied" in system.programs.log(beat))
    finally:
        system.settings.jobs.unlink()

    assert "no [jobs.NAME]" in system.programs.log(beat)
    assert system.query("SELECT 1 FROM scorebeat.jobs WHERE name = 'kept' AND removed_at IS NULL") == [(1,)]


def _enqueued(p: Producer) -> bool:
    try:
        enqueue(p, Request("wanted", "test"))
    except RunOpen:
        return False
    return True


def _now(system: System) -> datetime:
    with system.engine.connect() as connection:
        return database_clock.now(connection)
