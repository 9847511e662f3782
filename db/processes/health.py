"""Signs of life that the processes of one machine leave in the database, for a container's health check."""

from sqlalchemy import Connection

from scorebeat.db.processes.signs_of_life import BEAT, BEAT_READS, SEEN_WITHIN, SERVED


def queues_served_from(connection: Connection, host: str) -> set[str]:
    """Queues of this host's workers that were seen lately."""
    return set(connection.exec_driver_sql(SERVED, (host, SEEN_WITHIN)).scalars())


def beat_reads(connection: Connection) -> bool:
    """Whether a beat of this machine queried the database lately.

    It must use this connection's role and come from its address.
    """
    return bool(connection.exec_driver_sql(BEAT_READS, (BEAT, SEEN_WITHIN)).scalar_one())
