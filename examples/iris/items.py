"""The example's table `items`, as an application would keep it: register items, read them with their predictions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Identity,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

CLASSES = ("setosa", "versicolor", "virginica")
LOCK = 1_936_150
"""Advisory lock: two concurrent set-ups fill the table once."""

metadata = MetaData()
items = Table(
    "items",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("values", JSONB, nullable=False, comment="four lengths in cm"),
    Column("created_datetime", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_datetime", DateTime(timezone=True), nullable=False, server_default=func.now(), onupdate=func.now()),
)

predictions = Table(
    "iris",
    MetaData(schema="predictions"),  # a view of Scorebeat's, so not ours to create
    Column("id", BigInteger),
    Column("label", Text),
    *(Column(name, Double) for name in CLASSES),
    Column("batch_id", BigInteger),
    Column("scored_at", DateTime(timezone=True)),
)

Values = Sequence[float]


def create(connection: Connection) -> None:
    """Make the table if it does not exist."""
    metadata.create_all(connection)


def register(connection: Connection, values: Sequence[Values]) -> list[int]:
    """Store new items; returns their ids, in the order of `values`."""
    elements = (
        func.jsonb_array_elements(cast([list(v) for v in values], JSONB))
        .table_valued("value", with_ordinality="n")
        .render_derived()
    )
    in_order = select(elements.c.value).order_by(elements.c.n)
    return sorted(connection.execute(items.insert().from_select(["values"], in_order).returning(items.c.id)).scalars())


def fill(connection: Connection, values: Sequence[Values]) -> int:
    """Register the items if the table is empty; returns how many were stored. Safe to repeat, also concurrently."""
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    first = connection.execute(select(items.c.id).limit(1)).first()
    return len(register(connection, values)) if first is None else 0


def all_items(limit: int = 100) -> Select[Any]:
    """Items, the lowest ids first, with their prediction or NULLs."""
    columns = [c for c in predictions.c if c.name != "id"]
    joined = items.outerjoin(predictions, items.c.id == predictions.c.id)
    return select(items, *columns).select_from(joined).order_by(items.c.id).limit(limit)


def with_prediction(limit: int = 100) -> Select[Any]:
    return all_items(limit).where(predictions.c.id.is_not(None))


def without_prediction(limit: int = 100) -> Select[Any]:
    return all_items(limit).where(predictions.c.id.is_(None))


def by_id(connection: Connection, item_id: int) -> Row[Any] | None:
    """One item with its prediction; None if no item has that id."""
    return connection.execute(all_items().where(items.c.id == item_id)).one_or_none()


def classes() -> Select[Any]:
    """Each class with its count and the mean of its probability."""
    probability = func.avg(func.greatest(*(predictions.c[name] for name in CLASSES)))
    counted = select(predictions.c.label, func.count().label("rows"), probability.label("mean_probability"))
    return counted.group_by(predictions.c.label).order_by(predictions.c.label)


def top(name: str, limit: int = 5) -> Select[Any]:
    """The items of the highest probability for a class."""
    chosen = predictions.c[name]
    joined = items.join(predictions, items.c.id == predictions.c.id)
    return (
        select(items.c.id, items.c["values"], chosen)
        .select_from(joined)
        .order_by(chosen.desc(), items.c.id)
        .limit(limit)
    )
