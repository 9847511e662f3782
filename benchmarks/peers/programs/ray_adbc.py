"""Ray Data, tuned by hand: ranges of keys go through `map_batches`, which reads and writes by ADBC itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa
import ray
from adbc_driver_postgresql import dbapi

from benchmarks.peers.programs.model import loaded
from benchmarks.peers.programs.task import Score, Task, serve


def score_ranges(ranges: pd.DataFrame, task: Task, table: str) -> pd.DataFrame:
    """In a task, whose process keeps the model: actors would be started again for each table."""
    with dbapi.connect(task.url) as connection, connection.cursor() as cursor:
        for first, last in ranges[["first", "last"]].itertuples(index=False):
            cursor.execute(f"SELECT {task.columns} FROM {table} WHERE id BETWEEN {first} AND {last}")
            rows = cursor.fetch_arrow_table().to_pandas().set_index("id")
            predictions = pa.Table.from_pandas(loaded(task).predict(rows), preserve_index=True)
            cursor.adbc_ingest(task.target, predictions, mode="append")
            connection.commit()
    return ranges


@contextmanager
def started(task: Task) -> Iterator[Score]:
    ray.init(num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def score(table: str) -> None:
        last = _last(task, table)
        step = min(task.batch_rows, -(-last // (2 * task.cores)))  # of the trial, too, all processes have a part
        ranges = [{"first": first, "last": first + step - 1} for first in range(1, last + 1, step)]
        rows = ray.data.from_items(ranges, override_num_blocks=len(ranges))
        rows.map_batches(score_ranges, fn_args=(task, table), batch_format="pandas").materialize()

    yield score
    ray.shutdown()


def _last(task: Task, table: str) -> int:
    with dbapi.connect(task.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table}")
        (last,) = cursor.fetchone()
    return int(last)


if __name__ == "__main__":
    serve(started, ("ray", "adbc-driver-postgresql"))
