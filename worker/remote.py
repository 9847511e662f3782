"""What a worker does when it is told to over the broker: what Flower shows and offers, and nothing beyond."""

from celery.worker.control import Panel

TO_LOOK = frozenset(
    ("active", "active_queues", "clock", "conf", "disable_events", "enable_events", "heartbeat", "hello", "ping",
     "query_task", "registered", "report", "reserved", "revoked", "scheduled", "stats")
)  # fmt: skip
BUTTONS = frozenset(
    ("add_consumer", "autoscale", "cancel_consumer", "pool_grow", "pool_shrink", "revoke", "shutdown", "terminate")
)
"""Flower's. The ledger brings back what they take from a worker."""
KEPT = TO_LOOK | BUTTONS
"""The others lift time limits, slow a task down to nothing, import modules or write files."""


def narrow() -> None:
    """Forget every remote command of Celery's that is not in `KEPT`; again is harmless."""
    for name in set(Panel.data) - KEPT:
        del Panel.data[name]
        Panel.meta.pop(name, None)
