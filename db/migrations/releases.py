"""What was released with which migrations, and what that asks of the migrations that come after.

A migration after a release only expands: programs of the release go on beside it. One that takes away what programs of an
older release use says so by `contract_of = "0.1"`, the newest release that it no longer serves.
"""

from typing import Any

from alembic.runtime.migration import MigrationContext, MigrationInfo

from db.schema import OUTGROWN, SCHEMA

RELEASED = {"0.1": "0009"}
"""Newest revision of each minor version's first release."""


def note_contraction(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
    """Leave word for programs of the older releases, in the transaction of a migration that contracts."""
    contracted = getattr(step.up_revision.module, "contract_of", None) if step.is_upgrade and step.up_revision else None
    if contracted is not None:
        ctx.impl.execute_sql(f"COMMENT ON TABLE {SCHEMA}.alembic_version IS '{OUTGROWN}{RELEASED[contracted]}'")
