"""Ray Data, tuned by hand: ranges of keys go through `map_batches`, which reads and writes by ADBC itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
import ray
from adbc_driver_postgresql import dbapi

from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


class Scorer:
    """Holds the model and a connection in an actor."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = Model(task)
        self.connection = dbapi.connect(task.url)

    def __call__(self, ranges: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"rows": [self.score(*one) for one in ranges.itertuples(index=False)]})

    def score(self, table: str, first: int, last: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {self.task.columns} FROM {table} WHERE id BETWEEN {first} AND {last}")
            rows = cursor.fetch_arrow_table().to_pandas().set_index("id")
            predictions = pa.Table.from_pandas(self.model.predict(rows), preserve_index=True)
            cursor.adbc_ingest(self.task.target, predictions, mode="append")
        self.connection.commit()
        return len(rows)


@contextmanager
def started(task: Task) -> Iterator[Score]:
    ray.init(num_cpus=task.cores, include_dashboard=False, log_to_driver=False)

    def score(table: str) -> None:
        ranges = ray.data.from_items(_ranges(task, table), override_num_blocks=1)
        ranges.map_batches(
            Scorer,
            fn_constructor_args=(task,),
            batch_format="pandas",
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=task.cores),
        ).materialize()

    yield score
    ray.shutdown()


def _ranges(task: Task, table: str) -> list[dict[str, Any]]:
    with dbapi.connect(task.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table}")
        (last,) = cursor.fetchone()
    return [
        {"table": table, "first": first, "last": min(first + task.batch_rows - 1, last)}
        for first in range(1, last + 1, task.batch_rows)
    ]


if __name__ == "__main__":
    serve(started, ("ray", "adbc-driver-postgresql"))
