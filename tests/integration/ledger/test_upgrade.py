"""A ledger of the first release goes on after each migration since; one that cannot be done changes nothing."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, create_engine, make_url

from scorebeat.core.errors import MigrationFailed, UsageError
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import migrate, revisions, upgrade
from scorebeat.db.schema.migrations import releases
from scorebeat.producer.context import Producer
from scorebeat.producer.control.upkeep.rescue import rescue
from scorebeat.producer.control.upkeep.settle import settle_all
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring.score import Outcome
from tests.support.cli_fixtures import Cli
from tests.support.fixtures import wait_for
from tests.support.later import Later, later
from tests.support.ledger_fixtures import Ledger, Trained, trained
from tests.support.released_rows import TABLES, contents, fill

__all__ = ["later", "trained"]

ADD_COLUMN = 'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN cost bigint")'
BUILDING = (
    "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
    " AND pid <> pg_backend_pid()"
)
BREAK = 'op.execute("SELECT 1 / 0")'


@pytest.fixture
def settings(settings: Settings, empty_database: str) -> Settings:
    return settings.model_copy(update={"database_url": empty_database})


@pytest.fixture
def old(settings: Settings, trained: Trained) -> Iterator[Ledger]:
    """A database as the first release left it, with work of every kind and state."""
    producer = Producer(settings, "test")
    made = Ledger(producer, trained, settings)
    fill(made)
    yield made
    made.runtime.close()
    producer.close()


def migrate_logged(engine: Engine) -> list[str]:
    """Migrate in this process; returns the lines that were logged."""
    lines: list[str] = []
    with upgrade.turn(engine, lines.append) as connection:
        upgrade.upgrade(connection, lines.append)
    return lines


def test_a_ledger_of_the_first_release_has_everything_after_every_migration_since(old: Ledger, scorebeat: Cli) -> None:
    before = contents(old.engine)

    result = scorebeat("migrate")

    assert result.exit_code == 0, result.output
    assert all(rows for table, (_, rows) in before.items() if "every_job" not in table)
    assert contents(old.engine, like=before) == before
    with old.engine.connect() as connection:
        assert migrate.differences(connection) == []


@pytest.mark.parametrize("lost", ["DELETE FROM scorebeat.quarantine", "UPDATE scorebeat.runs SET reason = 'x'"])
def test_the_comparison_sees_what_a_migration_loses(old: Ledger, later: Later, lost: str) -> None:
    before = contents(old.engine)
    later.add(ADD_COLUMN)
    with later.installed():
        migrate_logged(old.engine)
    assert contents(old.engine, like=before) == before

    later.add(f'op.execute("{lost}")')
    with later.installed():
        migrate_logged(old.engine)

    assert contents(old.engine, like=before) != before


def test_work_that_the_first_release_began_is_ended_by_this_one(old: Ledger, scorebeat: Cli) -> None:
    assert scorebeat("migrate").exit_code == 0

    rescue(old.producer)
    assert set(old.score(5)) == {Outcome.COMMITTED}
    settle_all(old.producer)
    assert old.run(5).state == "succeeded"
    requeue(old.producer, 1, "test")
    for _ in range(2):
        old.score(1)
    settle_all(old.producer)

    assert old.run(1).state == "succeeded"
    done = "SELECT id, a, b FROM items WHERE id <= 40 OR id IN (41, 45, 50)"
    assert old.check_exact(done, f"predictions.{TABLES[0]}", "id") == 43
    assert old.sql("SELECT count(*) FROM predictions.flowers_job") == [43]
    used = json.loads(scorebeat("cost", "--json").stdout)["months"]  # 9 rows were scored before time was measured
    assert {month["job"]: (month["unmeasured_runs"], month["rows"]) for month in used} == {
        "every_job": (1, 0),
        "flowers_job": (0, 34),
    }
    for words in (
        ("runs",),
        ("show", "1"),
        ("failures",),
        ("prune", "--older-than", "1d"),
        ("models", "list"),
        ("cost",),
    ):
        assert scorebeat(*words).exit_code == 0, words


def test_a_migration_that_fails_half_way_leaves_the_ledger_and_reports_it(
    old: Ledger, later: Later, scorebeat: Cli
) -> None:
    assert scorebeat("migrate").exit_code == 0
    before, was = contents(old.engine), later.newest
    later.add(ADD_COLUMN, "op.execute(\"UPDATE scorebeat.runs SET reason = 'half'\")", BREAK)

    with later.installed():
        result = scorebeat("migrate")

    assert result.exit_code == 1
    assert f"the migration after revision {was} failed: division by zero" in result.stderr
    assert f"the ledger is at revision {was}" in result.stderr
    assert contents(old.engine) == before
    assert scorebeat("migrate").output == "the ledger is up to date\n"


def test_the_steps_migrated_before_a_failure_are_kept_and_not_repeated(
    old: Ledger, later: Later, scorebeat: Cli
) -> None:
    done = later.add(ADD_COLUMN)
    later.add(BREAK)

    with later.installed():
        outputs = [scorebeat("migrate").stderr for _ in range(2)]

    assert all(f"the ledger is at revision {done}" in one for one in outputs), outputs
    assert old.sql("SELECT count(cost) FROM scorebeat.batches") == [0]


def test_two_concurrent_migrations_run_once_and_the_other_reports_that_it_waited(
    old: Ledger, later: Later, scorebeat: Cli
) -> None:
    later.add('op.execute("SELECT pg_sleep(1.5)")', ADD_COLUMN)
    with later.installed():
        first = threading.Thread(target=migrate_logged, args=(old.engine,))
        first.start()
        asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        wait_for(lambda: old.sql(asleep))
        second = scorebeat("migrate")
        first.join()

    assert second.exit_code == 0
    assert "another `migrate` is at work; waiting for it" in second.stderr
    assert second.stdout == "the ledger is up to date\n"


def test_an_older_program_goes_on_with_a_newer_ledger_and_leaves_it_alone(
    old: Ledger, later: Later, scorebeat: Cli
) -> None:
    newer = later.add(ADD_COLUMN)
    with later.installed():
        migrate_logged(old.engine)

    migrated, shown = scorebeat("migrate"), scorebeat("show", "1")

    assert f"of a newer version (revision {newer}) and serves this one" in migrated.stdout
    assert (migrated.exit_code, shown.exit_code) == (0, 0)
    assert old.sql("SELECT count(cost) FROM scorebeat.batches") == [0]


def test_a_program_older_than_the_ledger_is_refused_and_names_the_next_step(
    old: Ledger, later: Later, scorebeat: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(releases.RELEASED, "this one", later.newest)
    later.add(ADD_COLUMN)
    number = later.add('op.drop_table("device_limits", schema="scorebeat")', contract_of="this one")
    with later.installed():
        migrate_logged(old.engine)
        assert scorebeat("runs").exit_code == 0

    for words in (("runs",), ("migrate",)):
        result = scorebeat(*words)
        assert result.exit_code == 2
        assert f"is at revision {number}" in result.stderr
        assert "Upgrade Scorebeat; nothing was changed" in result.stderr


def test_a_newer_program_refuses_an_older_ledger_and_names_the_next_step(
    old: Ledger, later: Later, scorebeat: Cli
) -> None:
    assert old.engine
    assert scorebeat("migrate").exit_code == 0
    was, number = later.newest, later.add(ADD_COLUMN)

    with later.installed():
        result = scorebeat("runs")

    assert result.exit_code == 2
    assert f"has the ledger's revision {was}, this version needs {number}: run `scorebeat migrate`" in result.stderr


def test_an_index_is_made_during_writes_and_an_interrupted_one_is_made_anew(old: Ledger, later: Later) -> None:
    migrate_logged(old.engine)  # an earlier migration adds columns to the table, and would wait for the writer
    old.sql("CREATE INDEX batches_by_number ON scorebeat.batches (queue)")
    later.add('create_index("batches_by_number", "batches", ["number"])')
    with make_engine(str(old.settings.database_url)).connect() as writer, later.installed():
        writer.exec_driver_sql("UPDATE scorebeat.batches SET error = 'mine' WHERE id = 1")
        work = threading.Thread(target=migrate_logged, args=(old.engine,))
        work.start()
        wait_for(lambda: old.sql(BUILDING))
        old.sql("UPDATE scorebeat.batches SET error = 'ours' WHERE id = 2")
        writer.commit()
        work.join(30)

    made = old.sql(
        "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index"
        " WHERE indexrelid = 'scorebeat.batches_by_number'::regclass"
    )
    assert [(definition.partition("USING ")[2], valid) for definition, valid in made] == [("btree (number)", True)]


@pytest.mark.slow
def test_a_lock_that_is_never_free_is_reported_with_the_name_of_its_holder(old: Ledger, later: Later) -> None:
    later.add(ADD_COLUMN)
    url = make_url(str(old.settings.database_url)).set(drivername="postgresql+psycopg2")
    reader = create_engine(url, connect_args={"application_name": "a long report"})
    lines: list[str] = []
    with reader.connect() as reading, later.installed():
        reading.exec_driver_sql("SELECT count(*) FROM scorebeat.batches")
        began = time.monotonic()
        with (
            upgrade.turn(old.engine, lines.append) as connection,
            pytest.raises(MigrationFailed, match="no lock could be taken in 1s"),
        ):
            upgrade.upgrade(connection, lines.append, timedelta(seconds=1))

    assert time.monotonic() - began < 15
    assert "the ledger is in use: a long report (PID " in lines[0]
    assert old.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'cost'") == [0]
    reader.dispose()


def test_a_database_without_a_ledger_is_migrated_from_nothing(empty_database: str) -> None:
    engine = make_engine(empty_database)
    with pytest.raises(UsageError, match="has no ledger yet"), engine.connect() as connection:
        revisions.require_usable(connection)

    assert migrate_logged(engine) == []

    with engine.connect() as connection:
        assert migrate.differences(connection) == []
    engine.dispose()
