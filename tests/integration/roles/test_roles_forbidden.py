"""The role that runs may do nothing but what runs need, neither by its own rights nor by those that the owner lends."""

from typing import Any

import pytest
from psycopg2.errors import InsufficientPrivilege, RaiseException
from sqlalchemy.exc import DBAPIError

from scorebeat.db.connect.engine import make_engine
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]

TABLE = "predictions.points_job__poison_v1"

FORBIDDEN = (
    "DROP TABLE {table}",
    "TRUNCATE {table}",
    "ALTER TABLE {table} ADD COLUMN mine int",
    "DELETE FROM {table}",
    "UPDATE {table} SET value = 0",
    "DROP VIEW predictions.points_job",
    "CREATE TABLE predictions.mine ()",
    "CREATE OR REPLACE VIEW predictions.points_job AS SELECT 1 AS id",
    "CREATE TABLE scorebeat.mine ()",
    "CREATE FUNCTION scorebeat.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "DROP TABLE scorebeat.actions",
    "TRUNCATE scorebeat.batches",
    "DELETE FROM scorebeat.batches",
    "DELETE FROM scorebeat.runs",
    "DELETE FROM scorebeat.actions",
    "UPDATE scorebeat.actions SET by = 'nobody'",
    "UPDATE scorebeat.batches SET id = 1",
    "UPDATE scorebeat.batches SET run_id = 1",
    "UPDATE scorebeat.runs SET spec = '{{}}'",
    "UPDATE scorebeat.runs SET prediction_set_id = 1",
    "UPDATE scorebeat.jobs SET spec = '{{}}'",
    "UPDATE scorebeat.jobs SET removed_at = now()",
    "INSERT INTO scorebeat.jobs (name, spec) VALUES ('mine', '{{}}')",
    "DELETE FROM scorebeat.jobs",
    "INSERT INTO scorebeat.model_versions (name, version, format, digest) VALUES ('poison', 9, 'pickle', 'd')",
    "UPDATE scorebeat.model_versions SET digest = 'mine'",
    "UPDATE scorebeat.model_versions SET published_at = now()",
    "INSERT INTO scorebeat.prediction_sets (job, table_name) VALUES ('points_job', 'points')",
    "UPDATE scorebeat.prediction_sets SET table_name = 'points'",
    "UPDATE scorebeat.prediction_sets SET visible_below = 0",
    "UPDATE scorebeat.prediction_sets SET complete_at = NULL",
    "UPDATE scorebeat.alembic_version SET version_num = '0001'",
    "INSERT INTO points VALUES (1000, 1)",
    "UPDATE points SET x = 0",
    "DELETE FROM points",
    "SET ROLE {owner}",
    "ALTER FUNCTION scorebeat.undo_run(bigint) SECURITY INVOKER",
)


def test_the_role_that_runs_can_change_no_table_no_prediction_and_no_source(locked: LockedPoints) -> None:
    locked.fill(20)
    locked.model({})
    locked.scored(locked.job())
    before = locked.sql("SELECT * FROM points ORDER BY id"), locked.sql(f"SELECT * FROM {TABLE} ORDER BY id")

    done = []
    for statement in FORBIDDEN:
        with locked.runner.engine.connect() as connection:
            try:
                connection.exec_driver_sql(statement.format(table=TABLE, owner=locked.roles.holder))
            except DBAPIError as error:
                if isinstance(error.orig, InsufficientPrivilege):
                    continue
                raise
        done.append(statement)

    assert done == []
    assert before == (
        locked.sql("SELECT * FROM points ORDER BY id"),
        locked.sql(f"SELECT * FROM {TABLE} ORDER BY id"),
    )


def test_the_owners_functions_take_away_nothing_that_a_reader_sees(locked: LockedPoints) -> None:
    locked.fill(20)
    locked.model({})
    plain = locked.job()
    run = locked.scored(plain)
    (shown,) = locked.sql("SELECT id FROM scorebeat.prediction_sets")
    own = {"run": run, "set": shown}
    # the worst that can be made up: a run of its own that claims to be shown whole, over the batch that was scored
    locked.as_runner(
        "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, spec, created_by, plan_expires_at)"
        " SELECT job, model, model_version, prediction_set_id, spec || '{\"on_failure\": \"retry-run\"}', 'me', now()"
        " FROM scorebeat.runs WHERE id = :run",
        run=run,
    )
    (forged,) = locked.sql("SELECT max(id) FROM scorebeat.runs")
    locked.sql("UPDATE scorebeat.batches SET run_id = :forged WHERE run_id = :run", forged=forged, run=run)

    for statement in (
        "SELECT scorebeat.undo_run(:forged)",
        "SELECT scorebeat.hide_from_now(:set), scorebeat.undo_run(:forged)",
        "SELECT scorebeat.renumber_batches(:forged)",
        "SELECT scorebeat.show_as_it_comes(:set)",
        "SELECT scorebeat.drop_generation(:set)",
        "SELECT scorebeat.drop_generation(12345)",
        "SELECT scorebeat.show_generation(:set)",
        "SELECT scorebeat.build_key(:set)",
    ):
        locked.as_runner(statement, **{k: v for k, v in {**own, "forged": forged}.items() if f":{k}" in statement})

    assert len(locked.view(plain)) == 20


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("open_generation(:set, 2, 'points_job__poison_v1_g2')", "is not one of a job that scores every row"),
        (
            "open_generation_without_key(:set, 2, 'points_job__poison_v1_g2')",
            "is not one of a job that scores every row",
        ),
        ("undo_run(:run)", "is not one that is shown whole"),
        ("show_generation(0)", "is not complete"),
    ],
)
def test_the_owners_functions_refuse_calls_that_no_run_makes(locked: LockedPoints, call: str, reason: str) -> None:
    locked.fill(5)
    locked.model({})
    run = locked.scored(locked.job())
    values = {"set": locked.sql("SELECT max(id) FROM scorebeat.prediction_sets")[0], "run": run}

    with pytest.raises(DBAPIError, match=reason) as refused:
        locked.as_runner(f"SELECT scorebeat.{call}", **{k: v for k, v in values.items() if f":{k}" in call})

    assert isinstance(refused.value.orig, RaiseException)


def test_a_generation_gets_no_other_name_than_its_own(locked: LockedPoints) -> None:
    locked.fill(5)
    locked.model({})
    locked.scored(locked.job(rescore="every-run"))
    (newest,) = locked.sql("SELECT max(id) FROM scorebeat.prediction_sets")

    for name in ("points", "points_job__poison_v1_g3", "x" * 64 + "_v1_g2"):
        with pytest.raises(DBAPIError, match="is not the name of generation 2"):
            locked.as_runner("SELECT scorebeat.open_generation(:set, 2, :name)", set=newest, name=name)


def test_nobody_else_may_call_the_owners_functions(locked: LockedPoints) -> None:
    stranger = make_roles_of_a_stranger(locked)

    with stranger.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
        connection.exec_driver_sql("SELECT scorebeat.complete_generation(1)")

    stranger.dispose()


def make_roles_of_a_stranger(locked: LockedPoints) -> Any:
    locked.sql(f"CREATE ROLE {locked.roles.runner}_not LOGIN PASSWORD 'of-a-test'")
    locked.sql(f"GRANT USAGE ON SCHEMA scorebeat TO {locked.roles.runner}_not")
    return make_engine(locked.roles.run.replace(locked.roles.runner, f"{locked.roles.runner}_not"))
