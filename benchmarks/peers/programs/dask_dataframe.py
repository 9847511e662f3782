"""Dask's DataFrame on a local cluster: `read_sql_table`, `map_partitions`, `to_sql`."""

from collections.abc import Iterator
from contextlib import contextmanager

import dask.dataframe as dd
import pandas as pd
from dask.distributed import Client, LocalCluster
from sqlalchemy import create_engine, text

from benchmarks.peers.programs.model import loaded
from benchmarks.peers.programs.task import Score, Task, serve


def predict(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    return loaded(task).predict(rows)


@contextmanager
def started(task: Task) -> Iterator[Score]:
    engine = create_engine(task.sqlalchemy_url)
    meta = pd.DataFrame({name: pd.Series(dtype="float64") for name in task.outputs}).astype({task.outputs[0]: "str"})
    with LocalCluster(n_workers=task.cores, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):

        def score(table: str) -> None:
            with engine.connect() as connection:
                last = connection.execute(text(f"SELECT max(id) FROM {table}")).scalar_one()
            parts = max(task.cores, -(-last // task.batch_rows))
            rows = dd.read_sql_table(table, task.sqlalchemy_url, index_col="id", npartitions=parts)
            rows.map_partitions(predict, task, meta=meta).to_sql(
                task.target, task.sqlalchemy_url, if_exists="append", index_label="id", parallel=True
            )

        yield score
    engine.dispose()


if __name__ == "__main__":
    serve(started, ("dask", "distributed", "pandas", "SQLAlchemy", "psycopg2-binary"))
