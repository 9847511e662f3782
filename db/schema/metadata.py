"""What all tables of the ledger share: the schema, names of constraints, and the type of timestamps."""

from sqlalchemy import Column, DateTime, MetaData, func

from scorebeat.core.table_names import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)


def timestamp(name: str, *, now: bool = False, null: bool = True) -> Column[object]:
    """A column for a timestamp; `now`: by default the time of the insert."""
    default = func.now() if now else None
    return Column(name, DateTime(timezone=True), nullable=null, server_default=default)
