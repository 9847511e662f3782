"""A whole system of real programs, workers, control, beat, Flower and API, under a role that owns nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.connect.engine import make_engine
from scorebeat.ops.local import prepare
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish
from tests.support import poison
from tests.support.api_fixtures import BEARER, TOKEN, Client, served
from tests.support.fixtures import Programs, kill_group, wait_for
from tests.support.flower_program import poisoned_job, start_flower, start_worker
from tests.support.own_servers import own_servers
from tests.support.poison_fixtures import assert_accounted
from tests.support.roles_fixtures import Roles, make_roles
from tests.support.system import SHORT_WAITS, System

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Locked:
    """One system, as its owner and as everything that runs by itself sees it."""

    owner: System
    run: System


@contextmanager
def locked_system(folder: Path) -> Iterator[Locked]:
    with own_servers(folder / "data") as servers:
        roles = make_roles(servers.urls.database_url)
        _give_a_shop(roles)
        paths = {name: folder / name for name in ("artifacts", "cache", "data", "jobs.toml")}
        options: dict[str, Any] = SHORT_WAITS | {name.partition(".")[0]: at for name, at in paths.items()}
        options |= {"broker_url": servers.urls.broker_url}
        mine, theirs = (
            Producer(Settings(_env_file=None, database_url=url, **options), "test") for url in (roles.owner, roles.run)
        )
        programs = Programs(theirs.settings, folder)
        prepare.migrate(mine, roles.runner)
        try:
            yield Locked(System(mine, programs, servers, None), System(theirs, programs, servers, None))
        finally:
            for process, _ in programs.started:
                kill_group(process)
            print(programs.logs())  # noqa: T201 -- pytest shows it where a test failed
            mine.close()
            theirs.close()


def _give_a_shop(roles: Roles) -> None:
    """The owner has the source tables too; the other role may read them."""
    engine = make_engine(roles.admin)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {roles.holder}")
        of_the_owner = f"ALTER DEFAULT PRIVILEGES FOR ROLE {roles.holder} IN SCHEMA public"
        connection.exec_driver_sql(f"{of_the_owner} GRANT SELECT ON TABLES TO {roles.runner}")
    engine.dispose()


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with locked_system(tmp_path_factory.mktemp("locked")) as made:
        yield made


@pytest.fixture(scope="module")
def client(s: Locked) -> Iterator[Client]:
    from scorebeat.api.app import make  # noqa: PLC0415 -- the application loads slowly

    settings = s.run.settings.model_copy(update={"api_token": SecretStr(TOKEN)})
    with served(make(settings)) as url, Client(base_url=url, headers=BEARER, timeout=30) as made:
        yield made


DROPPED = "SELECT 1 FROM scorebeat.prediction_sets WHERE job = 'daily' AND generation > 0 AND dropped_at IS NOT NULL"
OPEN = "SELECT 1 FROM scorebeat.runs WHERE job = 'daily' AND state IN ('planning', 'running')"


def test_everything_runs_under_a_role_that_owns_nothing(s: Locked, client: Client) -> None:
    daily = poisoned_job(s.owner, "daily", 40, {}, rescore="every-run", keep=1, schedule="every 2 seconds")
    rows = poisoned_job(s.owner, "rows", 60, {"raise": [7], "exit": [30]}, batch_rows=20, notify="http://127.0.0.1:9/")
    whole = poisoned_job(s.owner, "whole", 40, {"raise": [5]}, batch_rows=10, on_failure="retry-run", run_attempts=2)
    start_worker(s.run, 2)
    flower = start_flower(s.run)

    run = client.post("/runs", json={"job": "rows"}).json()["run"]
    undone = s.run.enqueue(whole)

    assert (s.run.until_finished(run), s.run.until_finished(undone)) == (RunState.PARTIAL, RunState.FAILED)
    assert_accounted(s.owner.engine, rows, {7: "ValueError", 30: "ProcessDied"}, "rows")
    assert s.owner.query("SELECT count(*) FROM predictions.whole__whole_v1") == [(0,)]
    assert flower.post(f"/runs/{undone}/requeue").status_code == 200
    assert client.post(f"/runs/{run}/requeue", json={}).status_code == 200
    assert (s.run.until_finished(run), s.run.until_finished(undone)) == (RunState.PARTIAL, RunState.FAILED)
    wait_for(lambda: s.run.query(DROPPED))
    assert flower.post("/runs/job/daily/pause").status_code == 200
    wait_for(lambda: not s.run.query(OPEN))
    assert client.get("/data/7", params={"job": "daily"}).json()["state"] == "predicted"
    assert client.get("/metrics").status_code == flower.get("/runs").status_code == 200
    publish_another(s.owner, daily.name)
    assert s.run.until_finished(s.run.enqueue(daily)) is RunState.SUCCEEDED
    assert s.owner.query("SELECT count(*) FROM predictions.daily") == [(40,)]
    statement = "SELECT DISTINCT event FROM scorebeat.notices WHERE attempts > 0"
    wait_for(lambda: s.run.query(statement) == [("finished",)])
    logs = "\n".join(log.read_text("utf-8", "replace") for _, log in s.run.programs.started)
    assert "permission denied" not in logs
    assert "control.failed" not in logs


def publish_another(s: System, name: str) -> None:
    """A second version of the model, published by the owner, whose system this is."""
    path = Path(s.settings.artifacts).parent / f"{name}{poison.SUFFIX}"
    path.write_text('{"another": 2}')
    publish.add(s.p, path, name, "ann")
    assert publish.publish_anyway(s.p, name, 2, "ann") == [name]
