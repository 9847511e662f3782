"""The log level of each event: a final failure is an ERROR, what may heal by itself a WARNING, the rest INFO."""

import logging
from collections.abc import Mapping

_ERRORS = frozenset({"canary.failed", "run.failed", "job.paused", "results.overdue"})
_WARNINGS = frozenset(
    {
        "batch.postponed",
        "beat.database_away",
        "broker.away",
        "burst.database_away",
        "claim.lost",
        "clock.went_back",
        "device.limit_not_recorded",
        "drift.found",
        "engine.not_cached",
        "engine.unavailable",
        "failure.not_recorded",
        "heartbeat.database_away",
        "late.expected",
        "messages.lost",
        "plan.cut_short",
        "profile.failed",
        "quality.failed",
        "row.quarantined",
        "rows.quarantined",
        "run.begun_again",
        "run.late",
        "run.not_compared",
        "run.waits",
        "settle.left_to_control",
        "tick.missed",
        "tick.skipped",
        "tick.unknown",
        "worker.little_memory",
    }
)
_OF_STATES = {
    "pending": logging.WARNING,
    "dead": logging.ERROR,
    "partial": logging.WARNING,
    "held": logging.WARNING,
    "failed": logging.ERROR,
}
"""What a batch or run is after `batch.failed`, `batch.rescued`, `process.died` and `run.finished`."""


def level_of(event: str, fields: Mapping[str, object]) -> int:
    """The level of an event whose call names none."""
    if event in _ERRORS:
        return logging.ERROR
    if event in _WARNINGS:
        return logging.WARNING
    if event == "notice.failed":
        return logging.ERROR if fields.get("given_up") else logging.WARNING
    return _OF_STATES.get(str(fields.get("state")), logging.INFO)
