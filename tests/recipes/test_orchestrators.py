"""The recipes of the page, run by Airflow, Dagster and Prefect themselves, each in its own virtual environment."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.recipes.churn_shop import MOST_QUARANTINED, ChurnShop, churn_shop

WITHIN = 400


@dataclass(frozen=True)
class Orchestrator:
    """How its own runner is started: on the recipe, for the customers that were seen before a day."""

    name: str
    script: str
    """Python for its environment; `DAY` is a placeholder of the day. It prints `N rows` at the end."""
    home: str
    """The variable that names the folder where it keeps its files."""
    variables: dict[str, str] = field(default_factory=dict)
    prepared_by: tuple[str, ...] = ()


AIRFLOW = Orchestrator(
    "airflow",
    """
import sys
from airflow.sdk import timezone
from churn_dag import churn_dag

run = churn_dag.test(logical_date=timezone.parse("DAY"))
(task,) = run.get_task_instances()
if task.state != "success":
    sys.exit(f"the task is {task.state}")
print(task.xcom_pull(task_ids="score_churn"), "rows")
""",
    "AIRFLOW_HOME",
    {"AIRFLOW__CORE__LOAD_EXAMPLES": "false"},
    ("airflow", "db", "migrate"),
)
DAGSTER = Orchestrator(
    "dagster",
    """
from datetime import date, timedelta
from churn_assets import churn_predictions
from dagster import DagsterInstance, materialize

partition = (date.fromisoformat("DAY") - timedelta(days=1)).isoformat()
with DagsterInstance.get() as instance:
    done = materialize([churn_predictions], partition_key=partition, instance=instance)
(made,) = done.asset_materializations_for_node("churn_predictions")
print(made.metadata["dagster/row_count"].value, "rows")
""",
    "DAGSTER_HOME",
)
PREFECT = Orchestrator(
    "prefect",
    "import runpy; runpy.run_path('churn_flow.py', run_name='__main__')",
    "PREFECT_HOME",
    {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orchestrators")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[ChurnShop]:
    with churn_shop(folder) as made:
        made.start_workers()
        yield made


@dataclass(frozen=True)
class Runner:
    """One orchestrator in the folder of the recipes."""

    of: Orchestrator
    programs: Path
    folder: Path
    environment: dict[str, str]

    def start(self, day: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.programs / "python", "-c", self.of.script.replace("DAY", day)],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


@pytest.fixture(scope="module", params=[AIRFLOW, DAGSTER, PREFECT], ids=lambda one: one.name)
def runner(request: pytest.FixtureRequest, shop: ChurnShop, folder: Path) -> Runner:
    of: Orchestrator = request.param
    home = folder / f"{of.name}_home"
    home.mkdir()
    programs = request.config.getoption("--recipes").absolute() / of.name / "bin"
    path = os.pathsep.join((str(programs), os.environ["PATH"]))
    kept = {"HOME": str(home), of.home: str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(folder), "PYTHONPATH": str(folder)}
    environment = shop.environment(PATH=path, **kept, **of.variables)
    if of.prepared_by:
        subprocess.run(of.prepared_by, cwd=folder, env=environment, check=True, timeout=WITHIN)
    return Runner(of, programs, folder, environment)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output; the output is shown where the test fails."""
    try:
        output, _ = process.communicate(timeout=WITHIN)
    finally:
        process.kill()
    print(output)  # noqa: T201 -- pytest shows it where a test failed
    return process.returncode, output


def test_a_later_try_continues_the_run_and_few_quarantined_rows_pass(runner: Runner, shop: ChurnShop) -> None:
    shop.replace_customers(200, "2020-07-01", without_visits=MOST_QUARANTINED + 1)
    shop.add_customers(5, "2999-01-01")  # not yet seen on any requested day
    before = len(shop.client.runs("churn"))

    process = runner.start("2026-07-02")
    try:
        shop.until_partial("churn", before)
        shop.mend_customers(1)
    finally:
        code, output = end(process)

    assert code == 0
    assert "201 rows" in output
    run, *others = shop.client.runs("churn")
    assert (len(others), run.rows_scored, run.rows_failed) == (before, 201, MOST_QUARANTINED)
    shop.system.execute("DELETE FROM customers WHERE seen_at > '2998-01-01'")
    shop.assert_predicted("churn")


def test_too_many_quarantined_rows_fail_the_task_with_scorebeats_error(runner: Runner, shop: ChurnShop) -> None:
    shop.replace_customers(50, "2020-07-03", without_visits=MOST_QUARANTINED + 1)
    before = len(shop.client.runs("churn"))

    code, output = end(runner.start("2026-07-04"))

    run, *others = shop.client.runs("churn")
    assert code != 0
    assert (
        f"run {run.id} of job churn is partial, 50 rows scored, 11 failed, more than 10: `scorebeat failures" in output
    )
    assert (len(others), str(run.state)) == (before, "partial")  # the three later tries made no run
    assert (
        len(
            shop.system.query(
                "SELECT 1 FROM scorebeat.actions WHERE action = 'run.requeued' AND subject = :run", run=f"run {run.id}"
            )
        )
        == 3
    )
