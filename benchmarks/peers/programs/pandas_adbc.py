"""pandas with an ADBC driver, as its documentation recommends: `read_sql` by ranges of keys, predict, `to_sql`."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
from adbc_driver_postgresql import dbapi

from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


@contextmanager
def started(task: Task) -> Iterator[Score]:
    model = Model(task).use_all_cores()
    with dbapi.connect(task.url) as connection:

        def score(table: str) -> None:
            last = int(pd.read_sql(f"SELECT max(id) AS last FROM {table}", connection)["last"][0])
            for first in range(1, last + 1, task.batch_rows):  # ADBC drivers have no chunksize
                part = f"id BETWEEN {first} AND {first + task.batch_rows - 1}"
                rows = pd.read_sql(f"SELECT {task.columns} FROM {table} WHERE {part}", connection, index_col="id")
                model.predict(rows).to_sql(task.target, connection, if_exists="append")

        yield score


if __name__ == "__main__":
    serve(started, ("pandas", "adbc-driver-postgresql"))
