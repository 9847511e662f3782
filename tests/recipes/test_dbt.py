"""The recipes of the page for dbt: a step that builds and then scores, and a hook that a job's query reads."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.recipes.churn_shop import ChurnShop, churn_shop
from tests.support.fixtures import wait_for

PROFILES = """
shop:
  target: test
  outputs:
    test:
      type: postgres
      host: "{host}"
      port: {port}
      user: "{user}"
      password: "{password}"
      dbname: "{dbname}"
      schema: analytics
      threads: 1
"""


@dataclass(frozen=True)
class Dbt:
    """The team's dbt project, beside a Scorebeat whose workers are at work."""

    shop: ChurnShop
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
        print(done.stdout)  # noqa: T201 -- pytest shows it where a test failed
        return done

    def apply(self) -> None:
        """Both jobs of the page; the tables that they read must be there."""
        self.shop.client.apply(self.folder / "features.toml")


@pytest.fixture(scope="module")
def dbt(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Dbt]:
    folder = tmp_path_factory.mktemp("dbt")
    with churn_shop(folder) as shop:
        url = make_url(str(shop.system.settings.database_url))
        host = url.host or url.query["host"]
        (folder / "profiles.yml").write_text(
            PROFILES.format(
                host=host, port=url.port or url.query.get("port", 5432), user=url.username,
                password=url.password or "", dbname=url.database,
            )
        )  # fmt: skip
        programs = request.config.getoption("--recipes").absolute() / "dbt" / "bin"
        path = os.pathsep.join((str(programs), os.environ["PATH"]))
        quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_PROFILES_DIR": str(folder), "HOME": str(folder)}
        made = Dbt(shop, folder, shop.environment(PATH=path, **quiet))
        shop.replace_customers(20, "2026-07-01")
        assert made.run("dbt", "build").returncode == 0
        made.apply()
        shop.start_workers()
        yield made


def test_the_step_builds_and_scores_and_a_later_try_continues_the_run(dbt: Dbt) -> None:
    dbt.shop.add_customers(180, "2026-07-01")
    dbt.shop.add_customers(11, "2026-07-01", visits="NULL::int")

    failed = dbt.run("python", "build_and_score.py", "night-1")
    one = "SELECT min(id) FROM analytics.features WHERE visits IS NULL"
    dbt.shop.system.execute(f"UPDATE analytics.features SET visits = 3 WHERE id = ({one})")
    again = dbt.run("python", "build_and_score.py", "night-1")

    assert failed.returncode == 1
    assert "is partial, 200 rows scored, 11 failed, more than 10: `scorebeat failures" in failed.stdout
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "201 rows")
    assert [run.rows_scored for run in dbt.shop.client.runs("churn_features")] == [201]


def test_a_build_that_fails_is_not_scored(dbt: Dbt) -> None:
    before = len(dbt.shop.client.runs("churn_features"))
    dbt.shop.system.execute("INSERT INTO customers (visits, days_away, seen_at) VALUES (1, 1, '2026-07-02')")

    failed = dbt.run("python", "build_and_score.py", "night-2")

    assert failed.returncode != 0
    assert "not_null_features_spent" in failed.stdout
    assert len(dbt.shop.client.runs("churn_features")) == before
    dbt.shop.system.execute("UPDATE analytics.features SET spent = 1 WHERE spent IS NULL")
    dbt.shop.system.execute("UPDATE customers SET spent = 1 WHERE spent IS NULL")


def test_rows_of_builds_that_a_hook_recorded_are_scored_by_the_schedule(dbt: Dbt) -> None:
    dbt.shop.system.execute("UPDATE analytics.features SET visits = 3 WHERE visits IS NULL")
    dbt.shop.system.execute("UPDATE customers SET visits = 3 WHERE visits IS NULL")
    dbt.shop.system.programs.beat()
    rows = "SELECT count(*) FROM analytics.features"
    seen = "SELECT count(*) FROM predictions.churn_built"
    builds = "SELECT count(*) FROM analytics.feature_builds"

    assert dbt.run("dbt", "build").returncode == 0
    wait_for(lambda: dbt.shop.system.query(seen) == dbt.shop.system.query(rows), 180)

    dbt.shop.assert_predicted("churn_built")
    recorded = dbt.shop.system.query(builds)
    dbt.shop.system.execute("INSERT INTO customers (visits, days_away, seen_at) VALUES (1, 1, '2026-07-03')")
    assert dbt.run("dbt", "build").returncode != 0
    ((last,),) = dbt.shop.system.query("SELECT max(id) FROM scorebeat.runs WHERE job = 'churn_built'")
    wait_for(
        lambda: dbt.shop.system.query(
            "SELECT 1 FROM scorebeat.runs WHERE job = 'churn_built' AND id > :id AND finished_at IS NOT NULL", id=last
        ),
        180,
    )
    assert dbt.shop.system.query(builds) == recorded
    assert dbt.shop.system.query(seen)[0][0] == dbt.shop.system.query(rows)[0][0] - 1
