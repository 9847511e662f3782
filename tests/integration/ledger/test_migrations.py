"""A migrated database is the one that `db.schema.tables` describes, whoever migrates it and however often."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import create_engine, make_url

from scorebeat.core.errors import UsageError
from scorebeat.core.table_names import PREDICTIONS, SCHEMA, WORK
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import migrate, revisions
from scorebeat.db.schema.tables import metadata
from scorebeat.ops.local.servers.postgres import binaries
from tests.support.ledger_fixtures import migrated
from tests.support.ledger_rows import add_batch, add_run


def dump(url: str) -> str:
    """The whole schema as `pg_dump` writes it, without Alembic's own table and what differs each time."""
    parts = make_url(url).set(drivername="postgresql")
    safe = parts._replace(password=None).render_as_string()
    written = subprocess.run(
        [binaries() / "pg_dump", "--schema-only", f"--exclude-table={SCHEMA}.alembic_version", safe],
        env={**os.environ, "PGPASSWORD": str(parts.password)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", written, flags=re.MULTILINE)


def created(url: str) -> None:
    """The tables as `db.schema.tables` has them, without a migration."""
    engine = make_engine(url)
    with engine.begin() as connection:
        for name in (SCHEMA, PREDICTIONS, WORK):
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        metadata.create_all(connection)
    engine.dispose()


def test_the_migrations_make_exactly_the_tables(database: str, empty_database: str) -> None:
    created(empty_database)

    by_migrations, by_tables = dump(database), dump(empty_database)

    assert "CONSTRAINT batches_claimed_check" in by_tables
    assert by_migrations == by_tables


def test_a_migrated_database_does_not_differ_from_the_tables(database: str) -> None:
    engine = make_engine(database)
    with engine.begin() as connection:
        assert migrate.differences(connection) == []

        connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.workers DROP COLUMN device")

        assert [change[0] for change in migrate.differences(connection)] == ["add_column"]
    engine.dispose()


def test_the_comparison_holds_for_a_role_named_as_the_schema(database: str) -> None:
    url = make_url(database).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, connect_args={"options": f"-c search_path={SCHEMA},public"})

    with engine.connect() as connection:
        assert migrate.differences(connection) == []

    engine.dispose()


def test_migrating_again_changes_nothing(database: str) -> None:
    before, engine = dump(database), make_engine(database)

    with engine.begin() as connection:
        was = migrate.migrate(connection)
        assert was == revisions.newest()

    assert dump(database) == before
    engine.dispose()


def test_ten_programs_that_start_together_migrate_once(empty_database: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        engines = list(pool.map(migrated, [empty_database] * 10))

    with engines[0].begin() as connection:
        assert revisions.revision(connection) == revisions.newest()
        assert migrate.differences(connection) == []
    for engine in engines:
        engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(empty_database: str) -> None:
    engine = make_engine(empty_database)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.runs (mine int)")
    before = dump(empty_database)

    with pytest.raises(Exception, match="already exists"), engine.begin() as connection:
        migrate.migrate(connection)

    assert dump(empty_database) == before
    engine.dispose()


def test_a_database_that_outgrew_this_program_is_refused_unchanged(database: str) -> None:
    engine = make_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {SCHEMA}.alembic_version SET version_num = '9999'")
        outgrown = f"{revisions.OUTGROWN}{revisions.newest()}"
        connection.exec_driver_sql(f"COMMENT ON TABLE {SCHEMA}.alembic_version IS '{outgrown}'")

    for refused in (migrate.migrate, revisions.require_usable):
        with pytest.raises(UsageError, match="9999"), engine.begin() as connection:
            refused(connection)

    with engine.begin() as connection:
        assert revisions.revision(connection) == "9999"
    engine.dispose()


def test_the_error_for_a_database_without_a_ledger_names_the_next_step(empty_database: str) -> None:
    engine = make_engine(empty_database)

    with (
        pytest.raises(UsageError, match="the database has no ledger yet: run `scorebeat migrate`"),
        engine.begin() as connection,
    ):
        revisions.require_usable(connection)

    engine.dispose()


def test_a_current_database_is_accepted(database: str) -> None:
    engine = make_engine(database)

    with engine.begin() as connection:
        revisions.require_usable(connection)

    engine.dispose()


def test_runs_of_an_older_ledger_keep_what_is_known_of_their_plans(database: str) -> None:
    engine = make_engine(database)
    with engine.begin() as connection:
        for name in ("planned", "cut_short", "failed_in_planning"):
            add_run(connection, "failed" if name == "failed_in_planning" else "running", name)
        connection.exec_driver_sql("UPDATE scorebeat.runs SET planned_at = now() WHERE state = 'running'")
        connection.exec_driver_sql(
            "UPDATE scorebeat.runs SET reason = 'planning was cut short: p died' WHERE job = 'cut_short'"
        )
        command.downgrade(migrate.config(connection), "0006")

        migrate.migrate(connection)

        whole = connection.exec_driver_sql("SELECT job FROM scorebeat.runs WHERE plan_is_whole").scalars().all()
    engine.dispose()
    assert whole == ["planned"]


def test_runs_of_an_older_ledger_have_the_times_that_forecasts_need(database: str) -> None:
    engine = make_engine(database)
    with engine.begin() as connection:
        done, empty = add_run(connection, "succeeded"), add_run(connection, "succeeded")
        times = {"claimed_at": "now", "claimed_by": "w1", "finished_at": "now", "rows_scored": 10}
        for number in (1, 2):
            add_batch(connection, done, "committed", number=number, claimed_pid=number, **times)
        connection.exec_driver_sql("UPDATE scorebeat.batches SET finished_at = claimed_at + interval '4 s'")
        connection.exec_driver_sql("UPDATE scorebeat.runs SET created_at = now() - interval '3 s'")
        connection.exec_driver_sql(
            "INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts)"
            f" VALUES ({done}, 'flowers_job', 'succeeded', 20, 2), ({empty}, 'flowers_job', 'succeeded', 0, 0)"
        )
        command.downgrade(migrate.config(connection), "0018")

        migrate.migrate(connection)

        known = connection.exec_driver_sql(
            "SELECT round(wait_seconds), span_seconds, busy_seconds, processes FROM scorebeat.run_sums ORDER BY run_id"
        )
        rows = [tuple(row) for row in known]
    engine.dispose()
    assert rows == [(3, 4, 8, 2), (None, None, None, None)]
