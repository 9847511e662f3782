"""Messages for pending batches: batches are marked before sending, and lost messages are found."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.core.states import Rank
from scorebeat.db.ledger.batches import BatchId
from scorebeat.db.processes.signs_of_life import SEEN_WITHIN
from scorebeat.db.records import turns

A_PROCESS = range(2, 51)
"""Messages that runs with lower priority may have out for each process of their queue, at least and at most."""
AHEAD = timedelta(seconds=3)
"""Within these limits, as many as a process scores in this time; batches are sent each second."""


@dataclass(frozen=True)
class StandBack:
    """Runs of `rank` and above have few messages out together, because they delay batches that become due."""

    rank: Rank
    messages: int


def waiting_queues(connection: Connection) -> list[str]:
    """Queues with pending batches."""
    rows = connection.execute(
        text("SELECT DISTINCT queue FROM scorebeat.batches WHERE state = 'pending' ORDER BY queue")
    )
    return [row[0] for row in rows]


def stand_back(connection: Connection, queue: str) -> StandBack:
    """Candidates always stand back; so do runs by hand if a job of the queue has a schedule."""
    found = connection.execute(
        text(
            "SELECT EXISTS (SELECT FROM scorebeat.jobs WHERE removed_at IS NULL AND paused_at IS NULL"
            " AND spec ->> 'queue' = :queue AND spec ->> 'schedule' IS NOT NULL) AS scheduled,"
            " (SELECT greatest(sum(processes), 1)::int FROM scorebeat.workers"
            " WHERE seen_at > now() - CAST(:seen AS interval) AND queues ? :queue) AS processes,"
            " (SELECT avg(b.fetch_seconds + b.predict_seconds + b.commit_seconds) FROM scorebeat.runs r"
            " JOIN scorebeat.batches b ON b.run_id = r.id AND b.number <= 20 AND b.state = 'committed'"
            " WHERE r.state IN ('planning', 'running') AND r.rank > 0 AND b.queue = :queue) AS seconds"
        ),
        {"queue": queue, "seen": SEEN_WITHIN},
    ).one()
    in_time = int(AHEAD.total_seconds() / max(found.seconds, 0.001)) if found.seconds is not None else 0
    each = min(max(A_PROCESS[0], in_time), A_PROCESS[-1])
    return StandBack(Rank.BY_HAND if found.scheduled else Rank.CANDIDATE, found.processes * each)


def mark_sent(connection: Connection, queue: str, window: int, back: StandBack | None = None) -> list[BatchId]:
    """Mark due batches that have no message out as sent, and return them, lowest rank and oldest first.

    At most `window` are out together, and of the runs that stand back at most the number in `back`. The
    caller sends after the commit. If it crashes in between, `unmark_lost` removes the marks.
    Dispatchers of one queue take turns: each counts what the others marked.
    """
    turns.take(connection, turns.DISPATCH, queue)
    rows = connection.execute(
        text(
            "WITH free AS (SELECT :window - count(*) AS room,"
            " :most - count(*) FILTER (WHERE rank >= :back) AS room_behind"
            " FROM scorebeat.batches WHERE state = 'pending' AND queue = :queue AND sent_at IS NOT NULL),"
            f" first AS ({_DUE} AND rank < :back ORDER BY rank, id"
            " LIMIT (SELECT greatest(0, room) FROM free) FOR UPDATE SKIP LOCKED),"
            f" behind AS ({_DUE} AND rank >= :back ORDER BY rank, id"
            " LIMIT (SELECT greatest(0, least(room_behind, room - (SELECT count(*) FROM first))) FROM free)"
            " FOR UPDATE SKIP LOCKED),"
            " due AS (SELECT id FROM first UNION ALL SELECT id FROM behind)"
            " UPDATE scorebeat.batches b SET sent_at = clock_timestamp() FROM due WHERE b.id = due.id"
            " RETURNING b.rank, b.id"
        ),
        {
            "queue": queue,
            "window": window,
            "back": back.rank if back else len(Rank),
            "most": back.messages if back else window,
        },
    )
    return [row[1] for row in sorted(map(tuple, rows))]


_DUE = (
    "SELECT id FROM scorebeat.batches WHERE state = 'pending' AND queue = :queue AND sent_at IS NULL"
    " AND (next_attempt_at IS NULL OR next_attempt_at <= clock_timestamp())"
)


def unmark_lost(connection: Connection, queue: str, sent_before: timedelta) -> int:
    """Remove the marks of batches whose messages were lost: the queue is empty, and they are still pending."""
    return connection.execute(
        text(
            "UPDATE scorebeat.batches SET sent_at = NULL WHERE state = 'pending' AND id IN"
            " (SELECT id FROM scorebeat.batches WHERE state = 'pending' AND queue = :queue"
            " AND sent_at < clock_timestamp() - CAST(:age AS interval) FOR UPDATE SKIP LOCKED)"
        ),
        {"queue": queue, "age": sent_before},
    ).rowcount
