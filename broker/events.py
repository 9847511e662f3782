"""Events of tasks, by which Flower shows what runs: those that wait to be sent together outlive a lost connection."""

from celery.app.events import Events
from celery.events import EventDispatcher


class KeepingDispatcher(EventDispatcher):  # type: ignore[misc]  # Celery publishes no types
    """Takes all that its predecessor did not send.

    A worker makes another dispatcher for each connection. Celery's takes what its predecessor could not send, and not
    what still waited for its turn: Flower would show a task that ended then as running for ever.
    """

    def extend_buffer(self, other: EventDispatcher) -> None:
        super().extend_buffer(other)
        for group, events in other._group_buffer.items():
            if events:
                self._outbound_buffer.append((list(events), f"{group}.multi"))


class InstallationEvents(Events):  # type: ignore[misc]  # as above
    dispatcher_cls = KeepingDispatcher
