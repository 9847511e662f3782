"""Signs of life over psycopg2 alone: containers check every few seconds, and SQLAlchemy costs more than the query."""

from contextlib import closing
from datetime import timedelta

import psycopg2

from scorebeat.core.queues import RESERVED_QUEUES

SEEN_WITHIN = timedelta(seconds=20)
"""A worker that was not seen for this long counts as gone: five heartbeats."""
BEAT = "scorebeat beat"
"""The name of beat's sessions; it reads the schedule again every few seconds."""
# psycopg2's placeholders, which SQLAlchemy's driver takes as well: `db.processes.health` runs the same queries
BEAT_READS = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    " AND client_addr IS NOT DISTINCT FROM inet_client_addr() AND state_change > clock_timestamp() - %s"
)
SERVED = (
    "SELECT queue FROM scorebeat.workers, jsonb_array_elements_text(queues) AS queue"
    " WHERE split_part(split_part(name, '/', 1), '@', 2) = %s AND seen_at > now() - %s"
)


def is_certain(url: str, process: str, host: str) -> bool:
    """Whether `worker`, `control` or `beat` of this host is certainly alive, and the database takes writes.

    False proves nothing: `db.processes.health` finds the reason. `url` is libpq's; no error is raised.
    """
    try:
        with (
            closing(psycopg2.connect(url, application_name="scorebeat health", connect_timeout=10)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT current_setting('transaction_read_only') = 'off'")
            if cursor.fetchall() != [(True,)]:
                return False
            if process == "beat":
                cursor.execute(BEAT_READS, (BEAT, SEEN_WITHIN))
                return bool(cursor.fetchall() == [(True,)])
            cursor.execute(SERVED, (host, SEEN_WITHIN))
            served = {queue for (queue,) in cursor.fetchall()}
    except (psycopg2.Error, ValueError):
        return False
    return served >= RESERVED_QUEUES if process == "control" else bool(served - RESERVED_QUEUES)
