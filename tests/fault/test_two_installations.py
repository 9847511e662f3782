"""Two ledgers whose programs share one database of one broker, with the same queues, and jobs of the same name."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest
import redis
from sqlalchemy import create_engine, make_url

from scorebeat.broker.neighbours import responding
from scorebeat.broker.send import waiting
from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.schema import migrate
from tests.support.fixtures import kill_group, typed, wait_for
from tests.support.system import System, assert_scored_once, own_system, publish_model, reached

pytestmark = pytest.mark.slow

OF_BEFORE = "scorebeat:"
"""The beginning of all keys before installations had prefixes."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("one")) as made:
        yield made


@pytest.fixture(scope="module")
def other(one: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("other")
    url = make_url(str(one.settings.database_url))
    admin = create_engine(url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE other")
    admin.dispose()
    own = url.set(database="other").render_as_string(hide_password=False)
    with reached(one, database_url=own, artifacts=folder / "artifacts", jobs=folder / "jobs.toml") as made:
        with made.engine.begin() as connection:
            migrate.migrate(connection)
        publish_model(made.p, folder)
        yield made


@pytest.fixture(autouse=True)
def nothing_runs(one: System) -> Iterator[None]:
    before = len(one.programs.started)
    yield
    for process, _ in one.programs.started[before:]:
        kill_group(process)


def keys(s: System) -> list[str]:
    with redis.Redis(unix_socket_path=s.servers.broker_socket, decode_responses=True) as client:
        return list(client.scan_iter("*"))


def check(settings: Settings) -> list[str]:
    """The lines of `scorebeat check` about neighbours."""
    output = typed(settings, "check").stdout
    return [" ".join(line.split()) for line in output.splitlines() if "neighbours" in line]


@pytest.mark.quick
def test_neither_takes_the_others_messages(one: System, other: System) -> None:
    theirs = other.job("flowers", rows=120)
    other.programs.control()
    left = other.enqueue(theirs)
    wait_for(lambda: waiting(other.p.app, "cpu") == 4)
    ours = one.job("flowers", rows=200)
    one.programs.control()
    worker = one.programs.worker("cpu")

    run = one.enqueue(ours)

    assert one.until_finished(run, 120) is RunState.SUCCEEDED
    assert_scored_once(one, ours)
    assert len(re.findall(r"Task scorebeat.score\S+ received", one.programs.log(worker))) == 4
    assert waiting(other.p.app, "cpu") == 4
    other.programs.worker("cpu")
    assert other.until_finished(left, 120) is RunState.SUCCEEDED
    assert_scored_once(other, theirs)
    prefixes = (one.p.app.prefix(), other.p.app.prefix())
    assert [key for key in keys(one) if not key.startswith(prefixes)] == []


def test_a_broadcast_reaches_its_own_workers_and_check_names_the_others(one: System, other: System) -> None:
    one.programs.worker("cpu", name="ours")
    other.programs.worker("cpu", name="theirs")
    wait_for(lambda: responding(one.p.app) and responding(other.p.app))

    assert {name.partition("@")[0].rstrip("0123456789") for name in responding(one.p.app)} == {"ours"}
    (line,) = check(one.settings)
    assert line.startswith("ok neighbours: another installation of Scorebeat")
    assert f"keys {other.p.app.prefix()}*, 1 worker listening" in line


def test_two_ledgers_with_one_prefix_are_a_problem_that_check_names(one: System, other: System) -> None:
    copied = other.settings.model_copy(update={"broker_prefix": one.p.app.prefix()})
    other.programs.worker("cpu", name="copied", SCOREBEAT_BROKER_PREFIX=one.p.app.prefix())
    wait_for(lambda: responding(one.p.app))

    lines = check(one.settings)

    assert any(line.startswith("problem neighbours: copied") and "never served this ledger" in line for line in lines)
    assert not any("problem" in line for line in check(copied))


def test_a_worker_of_our_ledger_that_listens_elsewhere_is_named_by_check(one: System) -> None:
    one.programs.worker("apart", name="elsewhere", SCOREBEAT_BROKER_PREFIX="foo:")
    one.programs.worker("cpu", name="near")
    wait_for(lambda: one.query("SELECT 1 FROM scorebeat.workers WHERE name LIKE 'elsewhere%'"))
    wait_for(lambda: responding(one.p.app))

    lines = [" ".join(line.split()) for line in typed(one.settings, "check").stdout.splitlines()]

    (line,) = [line for line in lines if line.startswith("warning workers: ")]
    who, _, why = line.partition(", and no message from here gets an answer")
    assert "elsewhere" in who
    assert "near" not in who
    assert "SCOREBEAT_BROKER_PREFIX" in why


def test_a_run_in_progress_goes_on_when_its_programs_get_a_prefix(one: System) -> None:
    with reached(one, broker_prefix=OF_BEFORE) as before:
        job = before.job("upgraded", rows=200)
        before.programs.control()
        run = before.enqueue(job)
        wait_for(lambda: before.query("SELECT 1 FROM scorebeat.runs WHERE id = :id AND state = 'running'", id=run))
        wait_for(lambda: waiting(before.p.app, "cpu") == 4)
    with reached(one, broker_prefix=OF_BEFORE) as before:
        before.programs.worker("elsewhere", name="old")
        wait_for(lambda: responding(before.p.app))

        one.programs.control()
        one.programs.worker("cpu")

        assert one.until_finished(run, 120) is RunState.SUCCEEDED
        assert_scored_once(one, job)
        assert waiting(before.p.app, "cpu") == 4
        (line,) = [line for line in check(one.settings) if OF_BEFORE + "*" in line]
        assert line.startswith("warning neighbours:")
        assert "1 worker listening" in line


def waits_for_its_prefix(s: System, process: "Popen[bytes]") -> bool:
    return "prefix of the broker's keys, cannot be read" in s.programs.log(process)


def test_programs_that_start_without_the_ledger_wait_for_their_prefix(one: System) -> None:
    own = one.p.app.prefix()
    one.flush_broker()
    one.servers.stop("database")
    one.programs.control()
    worker = one.programs.worker("cpu")
    try:
        for process, _ in one.programs.started[-3:]:
            wait_for(partial(waits_for_its_prefix, one, process))
        assert keys(one) == []
    finally:
        one.servers.start("database")

    one.until_served("cpu", "control")
    wait_for(lambda: len(responding(one.p.app)) == 2)
    run = one.enqueue(one.job("after_the_dark", rows=40))
    assert one.until_finished(run, 120) is RunState.SUCCEEDED
    assert worker.poll() is None
    assert all(key.startswith(own) for key in keys(one))
