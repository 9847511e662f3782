"""The peers, and how many rows each can score in some seconds."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A program of `benchmarks/peers/programs`."""

    name: str
    title: str
    most: Mapping[str, int]
    """By workload, the rows that it scores at most; elsewhere it scores the whole table."""

    @property
    def module(self) -> str:
        return f"benchmarks.peers.programs.{self.name}"


PEERS = {
    one.name: one
    for one in (
        Peer("ray_adbc", "Ray Data, tuned by hand: ADBC inside `map_batches`", {}),
        Peer("pandas_adbc", "pandas, ADBC driver, one process", {}),
        Peer("spark_jdbc", "Spark, local mode: JDBC, `mapInPandas`",
             {"numeric": 300_000, "text": 30_000, "forest": 200_000}),
        Peer("pandas_sqlalchemy", "pandas, SQLAlchemy, one process: `read_sql`, `to_sql`",
             {"numeric": 100_000, "text": 20_000, "forest": 100_000}),
        Peer("dask_dataframe", "Dask DataFrame: `read_sql_table`, `map_partitions`, `to_sql`",
             {"numeric": 100_000, "text": 20_000, "forest": 100_000}),
        Peer("ray_sql", "Ray Data: `read_sql`, `map_batches`, `write_sql`",
             {"numeric": 40_000, "text": 20_000, "forest": 40_000}),
        Peer("celery_rows", "Celery, a task for each row",
             {"numeric": 1_000, "text": 1_000, "forest": 400}),
        Peer("row_by_row", "the pattern's own job: row by row, SELECT, COMMIT, refresh",
             {"numeric": 500, "text": 500, "forest": 300}),
    )
}  # fmt: skip
