"""A team's installation with the customers and the model of the recipes, and the recipes as files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scorebeat
from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.core.settings import PREFIX
from scorebeat.db.reports.status import RunLine
from tests.docs.pages import REPOSITORY, Page
from tests.support.fixtures import wait_for
from tests.support.system import System, own_system

PAGE = Page.read(REPOSITORY / "docs/how-to/use-with-orchestrators.md")
INPUTS = ["visits", "days_away", "spent"]
MOST_QUARANTINED = 10
"""As many quarantined rows as the recipes allow."""


def save_recipes(folder: Path) -> None:
    """Every file that the page shows, under its name."""
    for block in PAGE.blocks:
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, "utf-8")


@dataclass(frozen=True)
class ChurnShop:
    """One installation; its customers come from the test."""

    system: System
    client: scorebeat.Client
    model: Any

    def environment(self, **more: str) -> dict[str, str]:
        """Of a program that has only what the page requires."""
        settings = self.system.settings
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        ours = {"SCOREBEAT_DATABASE_URL": str(settings.database_url), "SCOREBEAT_BROKER_URL": str(settings.broker_url)}
        return kept | ours | {"PYTHONUNBUFFERED": "1"} | more

    def start_workers(self) -> None:
        for queue in ("cpu", CONTROL_QUEUE, PLAN_QUEUE):
            self.system.programs.worker(queue, name=queue)

    def replace_customers(self, count: int, day: str, *, without_visits: int = 0) -> None:
        """Customers seen that day instead of all others; the model refuses those without visits."""
        self.system.execute("DELETE FROM customers")
        self.add_customers(count, day)
        self.add_customers(without_visits, day, visits="NULL::int")

    def add_customers(self, count: int, day: str, *, visits: str = "n % 40") -> None:
        self.system.execute(
            "INSERT INTO customers (visits, days_away, spent, seen_at)"
            f" SELECT {visits}, n * 7 % 365, n * 1.75, CAST(:day AS date) FROM generate_series(1, :count) n",
            day=day,
            count=count,
        )

    def mend_customers(self, count: int) -> None:
        self.system.execute(
            "UPDATE customers SET visits = 3 WHERE id IN (SELECT id FROM customers WHERE visits IS NULL LIMIT :count)",
            count=count,
        )

    def until_partial(self, job: str, runs_before: int) -> RunLine:
        """The run that was enqueued since, once it left rows out."""

        def newest() -> RunLine | None:
            runs = self.client.runs(job)
            return runs[0] if len(runs) > runs_before and str(runs[0].state) == "partial" else None

        found = wait_for(newest, 400)  # a server of the orchestrator's own may start first
        assert found is not None
        return found

    def assert_predicted(self, job: str) -> None:
        """Each customer with visits has the prediction of the model's own library, and no other has one."""
        rows = pd.DataFrame(
            self.system.query("SELECT id, visits, days_away, spent FROM customers ORDER BY id"), columns=["id", *INPUTS]
        )
        found = self.client.predictions(job).to_pandas()
        found = found[found["id"].isin(rows["id"])].sort_values("id")
        expected = rows.dropna()
        assert found["id"].tolist() == expected["id"].tolist()
        wanted = self.model.predict_proba(expected[INPUTS].to_numpy(float))
        assert np.allclose(found[list(self.model.classes_)], wanted, rtol=0, atol=1e-9)


@contextmanager
def churn_shop(folder: Path) -> Iterator[ChurnShop]:
    """Servers, the table, the model and the job of the page; no workers yet."""
    save_recipes(folder)
    with own_system(folder / "system") as system:
        system.execute(
            "CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, visits int, days_away int,"
            " spent float8, seen_at timestamptz)"
        )
        settings = system.settings
        with scorebeat.connect(
            settings.database_url, broker_url=settings.broker_url, artifacts=settings.artifacts, cache=settings.cache
        ) as client:
            model = _publish_model(client, folder)
            client.apply(folder / "jobs.toml")
            yield ChurnShop(system, client, model)


def _publish_model(client: scorebeat.Client, folder: Path) -> Any:
    draw = np.random.default_rng(7)
    known = draw.uniform([0, 0, 0], [40, 365, 500], size=(500, 3))
    left = known[:, 1] / 100 - known[:, 0] / 20 - known[:, 2] / 400 > 0
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(known, np.where(left, "leaves", "stays"))
    skops.io.dump(model, folder / "churn.skops")
    client.models.add(folder / "churn.skops", "churn", inputs=INPUTS)
    return model
