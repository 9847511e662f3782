"""pandas with SQLAlchemy: `read_sql` in chunks, predict, `to_sql`, in one process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
from sqlalchemy import create_engine

from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


@contextmanager
def started(task: Task) -> Iterator[Score]:
    engine = create_engine(task.sqlalchemy_url)
    model = Model(task).use_all_cores()

    def score(table: str) -> None:
        query = f"SELECT {task.columns} FROM {table}"
        with engine.connect().execution_options(stream_results=True) as connection:
            for rows in pd.read_sql(query, connection, index_col="id", chunksize=task.batch_rows):
                model.predict(rows).to_sql(task.target, engine, if_exists="append", method=METHOD)

    yield score
    engine.dispose()


METHOD = None
"""One INSERT, which SQLAlchemy's dialect sends for up to 1,000 rows at once: faster here than `method="multi"`."""

if __name__ == "__main__":
    serve(started, ("pandas", "SQLAlchemy", "psycopg2-binary"))
