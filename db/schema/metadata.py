"""What all tables of the ledger share: their schema, how constraints are named, how a timestamp is stored."""

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
    """A column for a timestamp; `now`: that of the insert unless one is given."""
    default = func.now() if now else None
    return Column(name, DateTime(timezone=True), nullable=null, server_default=default)
