"""Actions of the ledger's owner are refused to others in one line; the rights of runs are granted, checked and kept."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scorebeat.core.errors import NotPermitted, UsageError
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import migrate
from scorebeat.db.schema import roles as rights
from scorebeat.ops.cli.app import cli
from scorebeat.ops.local import prepare
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.versions import publish
from tests.support.fixtures import environment
from tests.support.roles_fixtures import LockedPoints, Roles, locked, make_roles, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "roles"]

TABLE = "predictions.points_job__poison_v1"


@pytest.fixture
def scorebeat(locked: LockedPoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The command line under the role that runs."""
    for name, value in environment(locked.settings).items():
        if name.startswith("SCOREBEAT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, list(words), prog_name="scorebeat")


@pytest.mark.parametrize(
    "words",
    [
        ("publish", "poison/2", "--force"),
        ("rollback", "poison", "--force"),
        ("models", "add", "model.poison", "--name", "poison"),
        ("models", "drop", "poison/2", "--yes"),
        ("apply", "--file", "jobs.toml"),
        ("prune", "--older-than", "1d"),
        ("migrate", "--run-role", "postgres"),
        ("enqueue", "late", "--model", "poison/2"),
    ],
)
def test_an_action_that_only_the_owner_may_take_is_refused_in_one_line(
    locked: LockedPoints, scorebeat: Any, words: tuple[str, ...]
) -> None:
    locked.fill(20)
    locked.model({})
    locked.scored(locked.job())
    locked.model({}, another=2)
    locked.publish(2)
    locked.publish(1)
    late = locked.job(name="late")
    Path("jobs.toml").write_text('[jobs.other]\nquery = "SELECT id, x FROM points"\nkey = "id"\nmodel = "poison"\n')
    before = locked.sql("SELECT count(*) FROM scorebeat.actions")

    result = scorebeat(*words)

    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert locked.roles.runner in result.stderr or locked.roles.holder in result.stderr
    assert locked.sql("SELECT count(*) FROM scorebeat.actions") == before
    assert late.name == "late"


def test_check_reports_which_rights_the_role_lacks(locked: LockedPoints, scorebeat: Any) -> None:
    locked.fill(5)
    locked.model({})
    locked.job()
    assert f"ok       role: {locked.roles.runner} may run all, and owns nothing" in scorebeat("check").output

    locked.sql(f"REVOKE UPDATE (reason) ON scorebeat.runs FROM {locked.roles.runner}")
    locked.sql(f"REVOKE INSERT ON {TABLE} FROM {locked.roles.runner}")
    result = scorebeat("check")

    assert result.exit_code == 2
    assert "lacks 2 rights that runs need: UPDATE (reason) on scorebeat.runs, INSERT on" in result.output
    assert f"`scorebeat migrate --run-role {locked.roles.runner}`" in result.output


def test_an_apply_that_changes_nothing_needs_no_right(locked: LockedPoints) -> None:
    locked.fill(5)
    locked.model({})
    job = locked.job()

    assert apply(locked.runner, [job], "beat").same == ["points_job"]
    with pytest.raises(NotPermitted, match="permission denied for table jobs"):
        apply(locked.runner, [job.model_copy(update={"batch_rows": 3})], "beat")


def test_a_later_migration_grants_the_rights_of_a_new_version_by_itself(locked: LockedPoints) -> None:
    with make_engine(locked.roles.admin).begin() as connection:
        connection.exec_driver_sql(f"REVOKE UPDATE (reason) ON scorebeat.runs FROM {locked.roles.runner}")
    locked.forget_functions()

    assert prepare.migrate(locked.producer).changed

    with locked.runner.engine.connect() as connection:
        assert rights.missing(connection) == []


def test_the_role_that_runs_may_start_everything_where_nothing_is_to_be_migrated(locked: LockedPoints) -> None:
    assert not prepare.migrate(locked.runner).changed


@pytest.mark.parametrize(("name", "reason"), [("nobody_has_this", "there is no role"), ("postgres", "has all rights")])
def test_a_role_whose_rights_cannot_be_reduced_is_refused(locked: LockedPoints, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        prepare.migrate(locked.producer, name)


def test_a_model_is_not_stored_when_it_cannot_be_recorded(locked: LockedPoints, settings: Settings) -> None:
    locked.fill(5)
    locked.model({})
    before = sorted(Path(locked.settings.artifacts).rglob("*"))

    with pytest.raises(NotPermitted, match="may not add a model"):
        publish.add(locked.runner, locked.folder / "model.poison", "poison", "ann")

    assert sorted(Path(locked.settings.artifacts).rglob("*")) == before
    assert settings.database_url


def test_a_schema_that_the_administrator_made_needs_no_right_to_make_schemas(empty_database: str) -> None:
    made: Roles = make_roles(empty_database)
    admin = make_engine(made.admin)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"REVOKE CREATE ON DATABASE {connection.engine.url.database} FROM {made.holder}")
        for name in ("scorebeat", "predictions"):
            connection.exec_driver_sql(f"CREATE SCHEMA {name} AUTHORIZATION {made.holder}")
    owner = make_engine(made.owner)

    with owner.begin() as connection:
        assert migrate.migrate(connection) is None
        assert migrate.differences(connection) == []

    owner.dispose()
    admin.dispose()
