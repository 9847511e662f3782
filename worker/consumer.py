"""A Celery 5.7.0 defect kept from killing workers: see docs/decisions/0003-celery-5-7-with-a-shim.md."""

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery publishes no types
    """Survives a broker that restarts while a task is unacknowledged.

    Celery 5.7.0 closes the broken connection at once; closing restores unacknowledged messages through
    that same connection, which is torn down already, and the AttributeError ends the worker. Dropping
    the connection without closing it loses nothing: the socket is collected before, and the messages
    come back by the visibility timeout or by the ledger.
    """

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if self.connection is not None:
            self.connection.close = _nothing
        super().on_connection_error_after_connected(exc)


def _nothing() -> None:
    """The connection is broken; its socket was collected."""
