"""Spark in local mode: `read.jdbc` in partitions, `mapInPandas`, `write.jdbc`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import psycopg2
from pyspark.sql import SparkSession

from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


@contextmanager
def started(task: Task) -> Iterator[Score]:
    os.environ["PYSPARK_PYTHON"] = sys.executable  # else its workers are the first python3 of the path
    spark = (
        SparkSession.builder.master(f"local[{task.cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.jars", task.jdbc_jar)
        .config("spark.driver.memory", "2g")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    model = spark.sparkContext.broadcast(Model(task))
    properties = {
        "driver": "org.postgresql.Driver",
        "user": task.user,
        "password": task.password,
        "reWriteBatchedInserts": "true",
    }
    schema = f"id long, {task.outputs[0]} string, " + ", ".join(f"{name} double" for name in task.outputs[1:])

    def predict(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in parts:
            yield model.value.predict(rows.set_index("id")).reset_index()

    def score(table: str) -> None:
        rows = spark.read.jdbc(
            task.jdbc_url,
            table,
            column="id",
            lowerBound=1,
            upperBound=_last(task, table) + 1,
            numPartitions=2 * task.cores,
            properties=properties | {"fetchsize": "10000"},
        )
        predictions = rows.select("id", *task.inputs).mapInPandas(predict, schema)
        predictions.write.jdbc(task.jdbc_url, task.target, "append", properties | {"batchsize": "10000"})

    yield score
    spark.stop()


def _last(task: Task, table: str) -> int:
    with psycopg2.connect(task.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table}")
        (last,) = cursor.fetchone()
    return int(last)


if __name__ == "__main__":
    serve(started, ("pyspark",))
