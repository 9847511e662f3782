"""Tables of what runs and workers used, and of prices."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Date, Float, Integer, Table, Text

from scorebeat.core.states import AttemptEnd
from scorebeat.db.schema.metadata import metadata, timestamp

run_usage = Table(
    "run_usage",
    metadata,
    # no foreign key: its lock on the run would wait for whoever closes the run, who waits for batches
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", Text, primary_key=True, comment="how the attempts ended"),
    Column("device", Text, primary_key=True, comment="cpu, or the model of a GPU, such as NVIDIA H200"),
    Column("job", Text, nullable=False),
    Column("day", Date, nullable=False, comment="on which the run began, in UTC"),
    Column("queue", Text, nullable=False, comment="of its batches; of a plan, plan"),
    Column("attempts", BigInteger, nullable=False),
    Column("device_seconds", Float, nullable=False, comment="from claim to end, divided by processes on one GPU"),
    Column("cpu_seconds", Float, nullable=False, comment="of processes that lived to report it"),
    Column("rows", BigInteger, nullable=False, comment="scored by attempts that committed, else left to do"),
    CheckConstraint(f"outcome IN ({', '.join(repr(end.value) for end in AttemptEnd)})", name="outcome"),
)

worker_time = Table(
    "worker_time",
    metadata,
    Column("month", Date, primary_key=True, comment="its first day, in UTC"),
    Column("queue", Text, primary_key=True, comment="the first queue of batches that the workers serve"),
    Column("device", Text, primary_key=True, comment="as in run_usage"),
    Column("device_seconds", Float, nullable=False, comment="that workers were alive, by a core or GPU each"),
)

prices = Table(
    "prices",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False, comment="the first that fits counts"),
    Column("name", Text, nullable=False, unique=True, comment="of its block in prices.toml"),
    Column("unit", Text, nullable=False),
    Column("price", Float, nullable=False),
    Column("currency", Text, nullable=False),
    Column("since", Date, nullable=False, comment="for runs that began on this day or later, in UTC"),
    Column("queue", Text, nullable=False, comment="a pattern"),
    Column("device", Text, nullable=False, comment="a pattern"),
    timestamp("applied_at", now=True, null=False),
    CheckConstraint("unit IN ('core_hour', 'gpu_hour')", name="unit"),
    CheckConstraint("price >= 0", name="price"),
)
