"""Ray Data as its documentation shows it: `read_sql`, `map_batches`, `write_sql`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import psycopg2
import ray

from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


class Predictor:
    """Holds the model in an actor."""

    def __init__(self, task: Task) -> None:
        self.model = Model(task)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        return self.model.predict(rows.set_index("id")).reset_index()


@contextmanager
def started(task: Task) -> Iterator[Score]:
    ray.init(num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    insert = f"INSERT INTO {task.target} VALUES ({', '.join(['%s'] * (1 + len(task.outputs)))})"

    def connect() -> Any:
        return psycopg2.connect(task.url)

    def score(table: str) -> None:
        rows = ray.data.read_sql(f"SELECT {task.columns} FROM {table}", connect)
        predictions = rows.map_batches(
            Predictor,
            fn_constructor_args=(task,),
            batch_format="pandas",
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        predictions.write_sql(insert, connect)

    yield score
    ray.shutdown()


if __name__ == "__main__":
    serve(started, ("ray", "psycopg2-binary"))
