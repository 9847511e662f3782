"""An application with Celery of its own enqueues a run after its own task, by the recipe of the page."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorebeat.core.data_folder import StackUrls
from tests.recipes.churn_shop import ChurnShop, churn_shop
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

MODELS = '''"""The application's own module, of a name that many have."""

import os

import psycopg2


def load_customers(day):
    with psycopg2.connect(os.environ["SCOREBEAT_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO customers (visits, days_away, spent, seen_at)"
            " SELECT n %% 40, n, n, %s::date - 1 FROM generate_series(1, 200) n", [day],
        )
'''
CALLER = "import sys, tasks; print(tasks.nightly(sys.argv[1]).get(timeout=120), 'rows')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[ChurnShop]:
    with churn_shop(folder) as made:
        (folder / "models.py").write_text(MODELS)
        yield made


@pytest.fixture(scope="module")
def environment(shop: ChurnShop, stack: StackUrls) -> dict[str, str]:
    assert stack.broker_url != shop.system.settings.broker_url
    return shop.environment(SHOP_BROKER_URL=stack.broker_url)


@pytest.fixture(scope="module")
def application(shop: ChurnShop, folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """The application's worker; returns its log."""
    assert shop  # its tables are there
    log = folder / "application.log"
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-l", "INFO", "-n", "shop@%h"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    yield log
    process.terminate()
    try:
        process.wait(60)
    finally:
        process.kill()
        print(log.read_text("utf-8", "replace"))  # noqa: T201 -- pytest shows it where a test failed


def call(folder: Path, environment: dict[str, str], day: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CALLER, day],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.wide
def test_a_task_that_celery_tries_again_waits_for_the_one_run(
    shop: ChurnShop, folder: Path, application: Path, environment: dict[str, str]
) -> None:
    caller = call(folder, environment, "2026-07-02")
    wait_for(lambda: "Retry in 10s: RunStillOpen" in application.read_text())  # nobody scores yet
    shop.start_workers()

    output, _ = caller.communicate(timeout=120)

    assert output.splitlines()[-1] == "200 rows"
    (run,) = shop.client.runs("churn")
    assert (str(run.state), run.due_at is not None) == ("succeeded", True)
    shop.assert_predicted("churn")


def test_too_many_quarantined_rows_fail_the_task_with_the_error_of_the_product(
    shop: ChurnShop, folder: Path, application: Path, environment: dict[str, str]
) -> None:
    shop.replace_customers(0, "2026-07-02", without_visits=11)
    before = len(shop.client.runs("churn"))

    output, _ = call(folder, environment, "2026-07-03").communicate(timeout=120)

    message = "is partial, 200 rows scored, 11 failed, more than 10: `scorebeat failures"
    assert message in output
    assert "most by InputError: ValueError: Input X contains NaN. visits" in output
    assert "RunNotSucceeded" in output
    assert message in application.read_text()
    assert len(shop.client.runs("churn")) == before + 1
