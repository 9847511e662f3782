"""A user's database whose settings a test changes, with a model that returns its inputs, run in the test's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url, text

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import runs
from scorebeat.db.ledger.runs import Run
from scorebeat.db.schema import migrate as schema
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.versions import publish
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support import echo

PLAIN = "-c timezone=UTC -c datestyle=ISO -c standard_conforming_strings=on -c search_path=public"
"""Options of the test's own connections, whatever the settings of the database are."""


@dataclass
class Shop:
    """`settings` name the database as our own programs reach it."""

    settings: Settings

    @property
    def url(self) -> str:
        return self.settings.database()

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run each over a plain connection of somebody else; returns the rows of the last."""
        url = make_url(self.url).set(query=self._host()).render_as_string(hide_password=False)
        opened = psycopg2.connect(url, client_encoding="UTF8", options=PLAIN)
        opened.autocommit = True
        with opened.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            found = cursor.fetchall() if cursor.description else []
        opened.close()
        return found

    def alter(self, *settings: str) -> None:
        """Set them on the database, for sessions from now on."""
        self.sql(*(f'ALTER DATABASE "{make_url(self.url).database}" SET {setting}' for setting in settings))

    def at(self, **query: str) -> "Shop":
        """The same database by a URL with more after the `?`."""
        url = make_url(self.url).update_query_dict(query).render_as_string(hide_password=False)
        return Shop(self.settings.model_copy(update={"database_url": url}))

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        made = Producer(self.settings, "test")
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def at_work(self) -> Iterator[tuple[Producer, Runtime]]:
        """A producer, and what a worker's process keeps from batch to batch."""
        runtime = Runtime(self.settings, name="w1")
        try:
            with self.producer() as p:
                yield p, runtime
        finally:
            runtime.close()

    def add_model(self, folder: Path) -> None:
        path = folder / f"model{echo.SUFFIX}"
        path.write_text("{}")
        with self.producer() as p:
            publish.add(p, path, "echo", "test")

    def migrate(self) -> None:
        engine = make_engine(self.url)
        with engine.begin() as connection:
            schema.migrate(connection)
        engine.dispose()

    def run(self, query: str, **more: Any) -> Run:
        """A run of the query to its end, the job applied before."""
        with self.scored(query, **more) as p, p.engine.connect() as connection:
            newest = connection.exec_driver_sql("SELECT max(id) FROM scorebeat.runs").scalar_one()
            return runs.get(connection, newest)

    @contextmanager
    def scored(self, query: str, **more: Any) -> Iterator[Producer]:
        """A run of the query to its end, with the producer's and the worker's sessions still open."""
        job = Job.model_validate({"name": "echoed", "query": query, "key": "id", "model": "echo", **more})
        with self.at_work() as (p, runtime):
            apply(p, [job], "test")
            run_id = enqueue(p, Request(job.name, "test")).run_id
            plan(p, run_id)
            with p.engine.connect() as connection:
                batches = text("SELECT id FROM scorebeat.batches WHERE run_id = :id ORDER BY number")
                ids = list(connection.execute(batches, {"id": run_id}).scalars())
            for batch in ids:
                score_batch(batch, runtime)
            yield p

    def labels(self, query: str, **more: Any) -> dict[Any, str]:
        """The stored predictions of a successful run of the query, by key."""
        done = self.run(query, **more)
        assert (done.state, done.reason) == ("succeeded", None)
        return dict(self.sql(f"SELECT id, label FROM predictions.{done.job.name}"))

    def _host(self) -> dict[str, str]:
        return {name: str(value) for name, value in make_url(self.url).query.items() if name == "host"}
