"""The Job `migrate`, without a cluster: its very commands as processes, on a database that has nothing yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from scorebeat.core.data_folder import StackUrls
from scorebeat.db.connect.engine import make_engine
from tests.deploy.kubelet import Node, RunningPod
from tests.deploy.manifests import Pod, named, pods, shape
from tests.support.fork_server import FORKS

pytestmark = pytest.mark.wide

WITHIN = 150.0


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    made = make_engine(empty_database, "test")
    yield made
    made.dispose()


@pytest.fixture
def node(empty_database: str, stack: StackUrls, tmp_path: Path) -> Iterator[Node]:
    jobs = tmp_path / "jobs.toml"
    jobs.write_text(named(shape("overlays/trial"), "ConfigMap", "scorebeat-jobs")["data"]["jobs.toml"], "utf-8")
    settings = named(shape("overlays/trial"), "ConfigMap", "scorebeat-settings")["data"]
    here = {"SCOREBEAT_ARTIFACTS": str(tmp_path / "models"), "SCOREBEAT_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    made = Node(
        tmp_path,
        {"SCOREBEAT_DATABASE_URL": empty_database, "SCOREBEAT_BROKER_URL": stack.broker_url},
        settings | here,
        {"/etc/scorebeat/jobs.toml": jobs},
        FORKS.commands(),
    )
    yield made
    made.end()
    print(made.logs())  # noqa: T201 -- pytest shows it where a test failed


def migrate() -> Pod:
    return next(pod for pod in pods(shape("overlays/trial")) if pod.owner == "migrate")


def test_the_trial_makes_an_empty_database_ready_and_may_be_applied_again(node: Node, engine: Engine) -> None:
    for again in (False, True):
        assert RunningPod(node, migrate(), f"migrate-{again}").join(WITHIN) == {"migrate": 0, "example": 0, "apply": 0}

    with engine.connect() as connection:
        jobs = connection.exec_driver_sql("SELECT name FROM scorebeat.jobs WHERE removed_at IS NULL").scalars().all()
        published = connection.exec_driver_sql("SELECT name, version FROM scorebeat.model_versions").all()
        rows = connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one()
        scored = connection.exec_driver_sql("SELECT count(*) FROM predictions.iris").scalar_one()
    assert (jobs, [tuple(one) for one in published]) == (["iris"], [("iris", 1)])
    assert rows > 0
    assert scored == 0
