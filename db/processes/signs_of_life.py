"""Signs of life over psycopg2 alone: containers check every few seconds, and SQLAlchemy costs more than the query."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from threading import Thread
from typing import TypeVar

import psycopg2

from scorebeat.core.errors import ServiceDown
from scorebeat.core.queues import RESERVED_QUEUES
from scorebeat.core.urls import redact

SEEN_WITHIN = timedelta(seconds=20)
"""A worker that was not seen for this long counts as gone: five heartbeats."""
RESPONSE_WITHIN = 5
"""Seconds that PostgreSQL has to respond to a health check, whatever it is silent in: the connection or a statement."""
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

_T = TypeVar("_T")


def in_time(url: str, query: Callable[[], _T]) -> _T:
    """What `query` returns or raises. Raises ServiceDown if that takes too long, and abandons the query."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(query())
        except BaseException as error:  # noqa: BLE001 -- raised below, in the thread that waits
            errors.append(error)

    thread = Thread(target=run, daemon=True)  # nothing else bounds a server that is silent after it took us
    thread.start()
    thread.join(RESPONSE_WITHIN)
    if errors:
        raise errors[0]
    if not results:
        raise ServiceDown(
            f"PostgreSQL at {redact(url)} gave no answer within {RESPONSE_WITHIN} s. Check that the server runs and is "
            "not overloaded; nothing was changed."
        )
    return results[0]


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
