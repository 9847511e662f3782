"""Signs of life that the processes of one machine leave in the database: what a health check of a container asks."""

from sqlalchemy import Connection

from scorebeat.db.processes.signs_of_life import BEAT, BEAT_READS, SEEN_WITHIN, SERVED


def queues_served_from(connection: Connection, host: str) -> set[str]:
    """Queues on which a worker of this host listens that was seen lately."""
    return set(connection.exec_driver_sql(SERVED, (host, SEEN_WITHIN)).scalars())


def beat_reads(connection: Connection) -> bool:
    """Whether a beat of this machine asked the database for something lately.

    It must have come by this connection's role and from its address.
    """
    return bool(connection.exec_driver_sql(BEAT_READS, (BEAT, SEEN_WITHIN)).scalar_one())
