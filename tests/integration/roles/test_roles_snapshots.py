"""Snapshots under a role that owns nothing: it makes them under its own rights, and `check` names what it lacks."""

from datetime import timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from scorebeat.core.states import RunState
from scorebeat.ops.cli.app import cli
from scorebeat.producer import retention
from scorebeat.producer.control.upkeep import snapshots
from scorebeat.producer.requests.requeue import requeue
from tests.support.fixtures import environment
from tests.support.poison_fixtures import assert_accounted
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace AND relkind = 'r'"
OWNERS = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'scorebeat_work'::regnamespace"


def checked(locked: LockedPoints, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line of `scorebeat check` about the job, under the role that runs."""
    for name, value in environment(locked.runner.settings).items():
        if name.startswith("SCOREBEAT_"):
            monkeypatch.setenv(name, value)
    lines = CliRunner().invoke(cli, ["check"]).output.splitlines()
    return next(line for line in lines if "job points_job" in line)


def test_the_role_that_runs_makes_and_drops_snapshots_and_the_owner_prunes_them(locked: LockedPoints) -> None:
    locked.fill(40)
    locked.model({"raise": [7]})
    job = locked.job(snapshot=True, batch_rows=15)
    run = locked.scored(job)
    assert locked.sql(OWNERS + " AND relkind = 'r'") == [locked.roles.runner]

    locked.mend()
    assert requeue(locked.producer, run, "ann") == 1
    assert locked.work(run) is RunState.SUCCEEDED
    assert_accounted(locked.engine, job, {})
    assert snapshots.drop_unneeded(locked.runner) == 1
    locked.harm({"raise": np.array([57.5])})
    locked.sql("INSERT INTO points VALUES (57, 57.5)")
    locked.scored(job)

    assert retention.run(locked.producer, timedelta(0), "ann").counts["snapshots"] == 1
    assert locked.sql(TABLES) == []


@pytest.mark.slow
def test_a_role_that_may_make_no_table_gets_the_grant_from_check_and_the_run(
    locked: LockedPoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked.fill(40)
    locked.model({})
    job = locked.job(snapshot=True)
    runner = locked.roles.runner
    locked.sql(f"REVOKE CREATE ON SCHEMA scorebeat_work FROM {runner}")

    run = locked.planned(job)

    assert locked.run(run).state is RunState.FAILED
    grant = f'GRANT USAGE, CREATE ON SCHEMA scorebeat_work TO "{runner}"'
    assert grant in str(locked.run(run).reason)
    line = checked(locked, monkeypatch)
    assert line.startswith("problem")
    assert grant in line
    locked.sql(grant)
    assert checked(locked, monkeypatch).startswith("ok")
    assert locked.work(locked.planned(job)) is RunState.SUCCEEDED


def test_a_database_without_the_schema_is_reported_with_what_makes_it(
    locked: LockedPoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked.fill(3)
    locked.model({})
    locked.job(snapshot=True)

    locked.sql("DROP SCHEMA scorebeat_work CASCADE")

    line = checked(locked, monkeypatch)
    assert line.startswith("problem")
    assert "CREATE SCHEMA scorebeat_work AUTHORIZATION" in line
