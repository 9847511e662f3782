"""Rows as a notebook reads them, by psycopg2 and pandas alone, without our conversions."""

import warnings
from contextlib import closing
from typing import Any

import psycopg2
from sqlalchemy import make_url

from scorebeat.core.errors import QueryError, ServiceDown
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.engine import NETWORK, address, unreachable


def read(url: str, statement: str) -> Any:
    """The DataFrame that `pandas.read_sql` makes, in a read-only transaction.

    Raises ImportError without pandas, ServiceDown, or QueryError.
    """
    import pandas as pd  # noqa: PLC0415 -- optional, and slow to import

    try:
        opened = psycopg2.connect(address(make_url(url), NETWORK))
    except psycopg2.OperationalError as error:
        raise ServiceDown(unreachable(url, str(error))) from None
    with closing(opened) as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pandas only supports SQLAlchemy")
        connection.set_session(readonly=True)
        try:
            return pd.read_sql_query(statement, connection)
        except (psycopg2.Error, pd.errors.DatabaseError) as error:
            raise QueryError(f"pandas.read_sql does not read the rows: {database_errors.message(error)}") from error
