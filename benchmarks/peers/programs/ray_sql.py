"""Ray Data with its own SQL functions: `read_sql` in shards, `map_batches`, `write_sql`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import psycopg2
import ray

from benchmarks.peers.programs.model import loaded
from benchmarks.peers.programs.task import Score, Task, serve


def predict(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """In a task, whose process keeps the model: actors would be started again for each table."""
    return loaded(task).predict(rows.set_index("id")).reset_index()


@contextmanager
def started(task: Task) -> Iterator[Score]:
    ray.init(num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    insert = f"INSERT INTO {task.target} VALUES ({', '.join(['%s'] * (1 + len(task.outputs)))})"

    def connect() -> Any:
        return psycopg2.connect(task.url)

    def score(table: str) -> None:
        rows = ray.data.read_sql(
            f"SELECT {task.columns} FROM {table}",
            connect,
            shard_keys=["id"],
            shard_hash_fn="hashint8",  # the default is MD5, which is no number in PostgreSQL: it would read in one task
            override_num_blocks=2 * task.cores,  # instead of 200
        )
        rows.map_batches(predict, fn_args=(task,), batch_format="pandas").write_sql(insert, connect)

    yield score
    ray.shutdown()


if __name__ == "__main__":
    serve(started, ("ray", "psycopg2-binary"))
