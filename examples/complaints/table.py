"""The example's table `complaints`, as a bank's regulator would keep it."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice

from sqlalchemy import BigInteger, Column, Date, Identity, MetaData, Table, Text, func, insert, select
from sqlalchemy.engine import Connection

from scorebeat.examples.complaints.data import Complaint

LOCK = 2_015_150
"""Advisory lock: two concurrent set-ups fill the table once."""
AT_ONCE = 5_000

metadata = MetaData()
complaints = Table(
    "complaints",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("received", Date, nullable=False),
    Column("product", Text, nullable=False),
    Column("consumer_complaint_narrative", Text, comment="NULL where the consumer gave none"),
)


def create(connection: Connection) -> None:
    """Make the table if it does not exist."""
    metadata.create_all(connection)


def fill(connection: Connection, new: Iterable[Complaint]) -> int:
    """Store the complaints if the table is empty; returns how many were stored. Safe to repeat, also concurrently."""
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    if connection.execute(select(complaints.c.id).limit(1)).first() is not None:
        return 0
    count, rows = 0, iter(new)
    while part := [asdict(complaint) for complaint in islice(rows, AT_ONCE)]:
        connection.execute(insert(complaints), part)
        count += len(part)
    return count
