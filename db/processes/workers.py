"""The `workers` table: workers that were seen lately, and the queues that they serve."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from scorebeat.core.queues import RESERVED_QUEUES
from scorebeat.db.processes.signs_of_life import SEEN_WITHIN
from scorebeat.db.records import usage
from scorebeat.db.schema.tables import workers

KEPT_FOR = timedelta(days=1)


def seen(connection: Connection, name: str, queues: list[str], device: str | None, processes: int) -> None:
    """Record that the worker is alive now, by the database's clock, and add the time since it was seen last."""
    _add_time(connection, name, queues, device, processes)
    new = insert(workers).values(name=name, queues=queues, device=device, processes=processes, fills_without_key=True)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "queues": new.excluded.queues,
                "device": new.excluded.device,
                "processes": new.excluded.processes,
                "fills_without_key": new.excluded.fills_without_key,
                "seen_at": func.now(),
            },
        )
    )


def _add_time(connection: Connection, name: str, queues: list[str], device: str | None, processes: int) -> None:
    """Add what the worker was alive since it was seen last; nothing for one that scores nothing.

    More than the time within which a worker counts as alive is left out: then it was cut off, or stood still.
    """
    scored = sorted(set(queues) - RESERVED_QUEUES)
    if not scored:
        return
    has_gpu = (device or "cpu").startswith("cuda")
    connection.execute(
        text(
            "INSERT INTO scorebeat.worker_time AS t (month, queue, device, device_seconds)"
            f" SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date, :queue, {usage.HARDWARE},"
            " greatest(extract(epoch FROM least(now() - seen_at, CAST(:most AS interval))), 0) * :places"
            " FROM (SELECT CAST(:device AS text) AS device, seen_at FROM scorebeat.workers WHERE name = :name) w"
            " ON CONFLICT (month, queue, device)"
            " DO UPDATE SET device_seconds = t.device_seconds + EXCLUDED.device_seconds"
        ),
        {
            "queue": scored[0],
            "device": device,
            "name": name,
            "most": SEEN_WITHIN,
            "places": 1 if has_gpu else processes,  # processes share one GPU, and have a core each
        },
    )


def forget(connection: Connection) -> int:
    """Delete workers that were not seen for a day. Returns how many."""
    return connection.execute(workers.delete().where(workers.c.seen_at < func.now() - KEPT_FOR)).rowcount


def gone(connection: Connection, name: str) -> None:
    connection.execute(workers.delete().where(workers.c.name == name))


def alive(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(workers).where(workers.c.seen_at > func.now() - SEEN_WITHIN).order_by(workers.c.name)
    )
    return [dict(row._mapping) for row in rows]


def all_fill_without_key(connection: Connection) -> bool:
    """Whether no worker of an older program is alive, which would refuse a table without its primary key."""
    return all(worker["fills_without_key"] for worker in alive(connection))


def nodes(connection: Connection) -> set[str]:
    """Celery's names of all workers that served this ledger within a day."""
    return {node(name) for name in connection.execute(select(workers.c.name)).scalars()}


def node(name: str) -> str:
    """Celery's name of a worker."""
    return name.rpartition("/")[0]


def served(connection: Connection) -> set[str]:
    """Queues that a living worker listens on."""
    return {queue for worker in alive(connection) for queue in worker["queues"]}
