"""Signs of life that the processes of one machine leave in the database: what a health check of a container asks."""

from sqlalchemy import Connection, func, select, text

from scorebeat.db.life import BEAT, SEEN_WITHIN
from scorebeat.db.tables import workers


def queues_served_from(connection: Connection, host: str) -> set[str]:
    """Queues on which a worker of this host listens that was seen lately."""
    name_at_host = func.split_part(workers.c.name, "/", 1)
    seen = select(workers.c.queues).where(
        func.split_part(name_at_host, "@", 2) == host, workers.c.seen_at > func.now() - SEEN_WITHIN
    )
    return {queue for queues in connection.execute(seen).scalars() for queue in queues}


def beat_reads(connection: Connection) -> bool:
    """Whether a beat of this machine asked the database for something lately.

    It must have come by this connection's role and from its address.
    """
    asked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
        " AND client_addr IS NOT DISTINCT FROM inet_client_addr()"
        " AND state_change > clock_timestamp() - CAST(:within AS interval)"
    )
    return bool(connection.execute(asked, {"name": BEAT, "within": SEEN_WITHIN}).scalar_one())
