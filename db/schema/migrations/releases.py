"""The migrations of each release, and the rule for later ones.

A migration after a release only expands: programs of the release go on beside it. One that takes away what programs of
an older release use has `contract_of = "0.1"`, the newest release that it no longer serves.
"""

from collections.abc import Collection, Mapping
from typing import Any

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script

from scorebeat.core.table_names import SCHEMA
from scorebeat.db.schema.revisions import OUTGROWN

RELEASED = {"0.1": "0011"}
"""Newest revision of each minor version's first release."""


def contracted(script: object) -> str | None:
    """The newest release that the migration no longer serves; None if it only expands."""
    return getattr(script.module, "contract_of", None) if isinstance(script, Script) else None


def note_contraction(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001 -- Alembic's signature
    run_args: Mapping[str, Any],  # noqa: ARG001 -- as above
) -> None:
    """Leave a comment for programs of older releases, in the transaction of the migration that contracts."""
    release = contracted(step.up_revision) if step.is_upgrade else None
    if release is not None:
        ctx.impl.execute(f"COMMENT ON TABLE {SCHEMA}.alembic_version IS '{OUTGROWN}{RELEASED[release]}'")
