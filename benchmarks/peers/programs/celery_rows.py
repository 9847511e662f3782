"""Celery as its user would first write it: a task for each row, which reads it, predicts and commits by the ORM."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from celery import Celery
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from benchmarks.peers.programs.mapped import mapped
from benchmarks.peers.programs.model import loaded
from benchmarks.peers.programs.task import Score, Task, read_task, serve

TASK = "PEER_TASK"
"""The variable that hands the task to the worker, and its URLs."""
BETWEEN_LOOKS = 0.05

app = Celery("peer")
app.conf.task_default_queue = "peer"


@app.task(name="predict")  # type: ignore[untyped-decorator]  # Celery publishes no types
def predict(table: str, row_id: int) -> None:
    task = read_task(os.environ[TASK])
    engine, classes = connected(task)
    with Session(engine) as session:
        row = session.get(classes[table], row_id)
        session.add(classes[task.target](id=row_id, **loaded(task).predict_row(row)))
        session.commit()


@lru_cache(maxsize=1)
def connected(task: Task) -> tuple[Engine, Any]:
    """Of this process, with its tables."""
    engine = create_engine(task.sqlalchemy_url)
    return engine, mapped(engine)


@contextmanager
def started(task: Task) -> Iterator[Score]:
    app.conf.broker_url = task.broker_url
    engine = create_engine(task.sqlalchemy_url)
    command = [sys.executable, "-m", "celery", "-A", __spec__.name, "worker", "-Q", "peer", "-c", str(task.cores)]
    environment = os.environ | {TASK: json.dumps(asdict(task)), "CELERY_BROKER_URL": task.broker_url}
    worker = subprocess.Popen(command, env=environment)

    def score(table: str) -> None:
        with engine.connect() as connection:
            ids = list(connection.execute(text(f"SELECT id FROM {table}")).scalars())
        for row_id in ids:
            predict.delay(table, row_id)
        count = text(f"SELECT count(*) FROM {task.target}")
        while True:
            with engine.connect() as connection:
                if connection.execute(count).scalar_one() == len(ids):
                    return
            time.sleep(BETWEEN_LOOKS)

    yield score
    worker.terminate()
    worker.wait()
    engine.dispose()


if __name__ == "__main__":
    serve(started, ("celery", "redis", "SQLAlchemy", "psycopg2-binary"))
