"""The `device_limits` table: how many rows of a model fit a device at once, as processes measured it."""

from datetime import timedelta

from sqlalchemy import Connection, case, func, select
from sqlalchemy.dialects.postgresql import insert

from scorebeat.db.schema.tables import device_limits as limits

KEPT_FOR = timedelta(days=7)
"""Other programs on the device may have caused a limit: older ones are ignored, and measured again."""


def known(connection: Connection, model: str, version: int, device: str) -> int | None:
    """Rows that fit at once; None if nothing was learned lately."""
    found: int | None = connection.execute(
        select(limits.c.micro_batch_rows).where(
            limits.c.model == model,
            limits.c.model_version == version,
            limits.c.device == device,
            limits.c.learned_at > func.now() - KEPT_FOR,
        )
    ).scalar_one_or_none()
    return found


def learn(connection: Connection, model: str, version: int, device: str, rows: int) -> None:
    """Record that so many rows fit at once and more did not; if two processes record, the smaller number stays."""
    new = insert(limits).values(model=model, model_version=version, device=device, micro_batch_rows=rows)
    is_old = limits.c.learned_at <= func.now() - KEPT_FOR
    least = func.least(limits.c.micro_batch_rows, new.excluded.micro_batch_rows)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["model", "model_version", "device"],
            set_={
                "micro_batch_rows": case((is_old, new.excluded.micro_batch_rows), else_=least),
                "learned_at": func.now(),
            },
        )
    )
