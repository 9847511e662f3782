"""The example's table `customers`: whom a shop has, loaded anew each night, and who left."""

from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import BigInteger, Boolean, Column, Connection, Double, MetaData, Table, text

COUNT = 20_000

metadata = MetaData()
customers = Table(
    "customers",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("age", Double),
    Column("months", Double, comment="since they came"),
    Column("visits", Double, comment="in the last month"),
    Column("churned", Boolean, comment="known later"),
)


def night(number: int, *, campaign: bool = False, count: int = COUNT) -> pa.Table:
    """The customers of one night, the same each time; after a campaign for students they are younger and newer."""
    random = np.random.default_rng(number)
    age = random.normal(29 if campaign else 42, 11, count).clip(16, 95)
    months = random.exponential(5 if campaign else 20, count)
    visits = random.poisson(3, count).astype(float)
    odds = 1.9 - 0.04 * age - 0.03 * months - 0.3 * visits
    churned = random.random(count) < 1 / (1 + np.exp(-odds))
    return pa.table({"age": age, "months": months, "visits": visits, "churned": churned})


def load(connection: Connection, rows: pa.Table) -> int:
    """Replace the table by these customers, as a nightly load does; returns how many they are."""
    metadata.create_all(connection)
    connection.execute(text("TRUNCATE customers"))
    loaded: list[dict[str, Any]] = [{"id": at, **row} for at, row in enumerate(rows.to_pylist(), 1)]
    connection.execute(customers.insert(), loaded)
    connection.execute(text("ANALYZE customers"))
    return len(loaded)
