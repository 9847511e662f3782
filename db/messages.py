"""Which pending batches a message is out for: marking before sending, and finding lost ones."""

from datetime import timedelta

from sqlalchemy import Connection, text

from db.batches import BatchId

LOCK = 7_265_626
"""Advisory locks of this class are held for a queue while its messages are counted and marked."""


def waiting_queues(connection: Connection) -> list[str]:
    """Queues with pending batches."""
    rows = connection.execute(
        text("SELECT DISTINCT queue FROM scorebeat.batches WHERE state = 'pending' ORDER BY queue")
    )
    return [row[0] for row in rows]


def mark_sent(connection: Connection, queue: str, window: int) -> list[BatchId]:
    """Due batches that have no message out, oldest first, at most `window` out together; marked as sent.

    The caller sends after the commit. One that crashes in between leaves marks that `unmark_lost` takes back.
    Dispatchers of one queue take turns: each counts what the others marked.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock, hashtext(:queue))"), {"lock": LOCK, "queue": queue})
    rows = connection.execute(
        text(
            "WITH free AS (SELECT greatest(0, :window - count(*)) AS room FROM scorebeat.batches"
            " WHERE state = 'pending' AND queue = :queue AND sent_at IS NOT NULL),"
            " due AS (SELECT id FROM scorebeat.batches WHERE state = 'pending' AND queue = :queue"
            " AND sent_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at <= clock_timestamp())"
            " ORDER BY id LIMIT (SELECT room FROM free) FOR UPDATE SKIP LOCKED)"
            " UPDATE scorebeat.batches b SET sent_at = clock_timestamp() FROM due WHERE b.id = due.id"
            " RETURNING b.id"
        ),
        {"queue": queue, "window": window},
    )
    return sorted(row[0] for row in rows)


def unmark_lost(connection: Connection, queue: str, sent_before: timedelta) -> int:
    """Their queue is empty and they are still pending: the messages sent longer ago were lost."""
    return connection.execute(
        text(
            "UPDATE scorebeat.batches SET sent_at = NULL WHERE state = 'pending' AND id IN"
            " (SELECT id FROM scorebeat.batches WHERE state = 'pending' AND queue = :queue"
            " AND sent_at < clock_timestamp() - CAST(:age AS interval) FOR UPDATE SKIP LOCKED)"
        ),
        {"queue": queue, "age": sent_before},
    ).rowcount
