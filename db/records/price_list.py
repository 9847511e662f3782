"""The `prices` table: the prices of the last prices.toml that was applied."""

from sqlalchemy import Connection, delete, insert, select

from scorebeat.core.prices.price_list import NO_PRICES, Price, PriceList
from scorebeat.db.schema.tables import metadata

_PRICES = metadata.tables["scorebeat.prices"]
_OF_PRICE = ("name", "unit", "price", "since", "queue", "device")


def read(connection: Connection) -> PriceList:
    """The prices, in the order of their file; `NO_PRICES` if none were applied."""
    rows = connection.execute(select(_PRICES).order_by(_PRICES.c.position)).all()
    if not rows:
        return NO_PRICES
    prices = (Price(**{name: getattr(row, name) for name in _OF_PRICE}) for row in rows)
    return PriceList(rows[0].currency, tuple(prices))


def replace(connection: Connection, prices: PriceList) -> None:
    """Store these prices instead of those that are there."""
    connection.exec_driver_sql("LOCK TABLE scorebeat.prices IN SHARE ROW EXCLUSIVE MODE")
    connection.execute(delete(_PRICES))
    rows = [
        {"position": position, "currency": prices.currency, **{name: getattr(price, name) for name in _OF_PRICE}}
        for position, price in enumerate(prices.prices)
    ]
    if rows:
        connection.execute(insert(_PRICES), rows)
