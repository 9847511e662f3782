"""The database's clock went back: earlier timestamps are too far ahead, and work would wait for them."""

from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.db.processes.signs_of_life import SEEN_WITHIN
from scorebeat.db.records.notices import CLAIM, LONGEST_PAUSE

SHORTEST_LEASE = timedelta(minutes=2)
"""A worker may have another `claim_ttl` than this process."""
LONGEST_WAIT = timedelta(minutes=30)
"""No batch waits longer for its next attempt, and no failed tick for another, than this plus `backoff_cap`."""
LONGEST_NIGHT = timedelta(hours=26)
"""A truth is read once a night, one of which has 25 hours."""
JITTER = timedelta(minutes=1)
"""A time that is ahead by less comes soon enough."""

_PARTS = {
    # not expired at once: a living worker renews it
    "claims": "UPDATE scorebeat.batches SET claim_expires_at = clock_timestamp() + :ttl"
    " WHERE state = 'claimed' AND claim_expires_at > clock_timestamp() + :lease",
    "messages": "UPDATE scorebeat.batches SET sent_at = clock_timestamp()"
    " WHERE state = 'pending' AND sent_at > clock_timestamp() + :jitter",
    "waits": "UPDATE scorebeat.batches SET next_attempt_at = clock_timestamp()"
    " WHERE state = 'pending' AND sent_at IS NULL AND next_attempt_at > clock_timestamp() + :wait",
    "plans": "UPDATE scorebeat.runs SET plan_expires_at = clock_timestamp() + :ttl"
    " WHERE state IN ('planning', 'running') AND plan_expires_at > clock_timestamp() + :lease",
    "keys": "UPDATE scorebeat.runs SET key_retry_at = clock_timestamp()"
    " WHERE state = 'running' AND key_retry_at > clock_timestamp() + :jitter",
    "notices": "UPDATE scorebeat.notices SET due_at = clock_timestamp()"
    " WHERE delivered_at IS NULL AND given_up_at IS NULL AND due_at > clock_timestamp() + :notice",
    "jobs": "UPDATE scorebeat.jobs SET last_due_at = clock_timestamp() WHERE last_due_at > clock_timestamp() + :jitter",
    "truths": "UPDATE scorebeat.truth_readings SET next_at = clock_timestamp()"
    " WHERE next_at > clock_timestamp() + :night",
    "workers": "UPDATE scorebeat.workers SET seen_at = clock_timestamp() WHERE seen_at > clock_timestamp() + :seen",
}
_BRING_BACK = text(
    "WITH "
    + ", ".join(f"{name} AS ({move} RETURNING 1)" for name, move in _PARTS.items())
    + " SELECT "
    + ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in _PARTS)
)


def bring_back(connection: Connection, claim_ttl: timedelta, backoff_cap: timedelta) -> dict[str, int]:
    """Replace timestamps that are further ahead than possible by the current time. Returns how many of each kind.

    A due time that was handled before the clock went back is handled again when it comes again.
    """
    found = connection.execute(
        _BRING_BACK,
        {
            "ttl": claim_ttl,
            "lease": max(SHORTEST_LEASE, 4 * claim_ttl),
            "wait": LONGEST_WAIT + backoff_cap,
            "notice": LONGEST_PAUSE + CLAIM + JITTER,
            "jitter": JITTER,
            "seen": SEEN_WITHIN + JITTER,
            "night": LONGEST_NIGHT,
        },
    ).one()
    return {name: count for name, count in found._mapping.items() if count}
