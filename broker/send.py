"""Messages to the broker: hints that there is work; the work itself is in the ledger."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from scorebeat.broker.app import queue
from scorebeat.core.errors import ServiceDown, one_line
from scorebeat.core.events import emit
from scorebeat.core.queues import ROUTES, SCORE
from scorebeat.core.urls import redact

SOON = {"interval_start": 0.1, "interval_max": 0.1}
"""Seconds between tries: a broker that is away is noticed soon; the ledger remembers what was not sent."""
PATIENCE = {"socket_timeout": 5}
"""Seconds for each answer, including a TLS handshake, while a person waits; a worker's BRPOP needs longer."""


def send(
    app: Celery, task: str, args: Sequence[int], expires: float | None = None, queue_name: str | None = None
) -> bool:
    """Send one message of a task, void after `expires` seconds; False if the broker is away.

    It goes to the queue of that name, or else to the task's in `ROUTES`. The ledger remembers, so it is sent again
    later.
    """
    try:
        target = queue(queue_name if queue_name is not None else ROUTES[task])
        app.send_task(task, args=list(args), queue=target, retry=False, expires=expires)
    except OperationalError as error:
        emit("broker.away", task=task, reason=one_line(error))
        return False
    return True


def send_batches(app: Celery, queue_name: str, batch_ids: Sequence[int]) -> int:
    """Send a message for each batch over one connection. Returns how many were sent before the broker was away."""
    sent = 0
    target = queue(queue_name)
    try:
        with app.producer_or_acquire() as producer:
            for batch_id in batch_ids:
                app.send_task(SCORE, args=[batch_id], queue=target, producer=producer, retry=False)
                sent += 1
    except OperationalError as error:
        emit("broker.away", queue=queue_name, unsent=len(batch_ids) - sent, reason=one_line(error))
    return sent


def waiting(app: Celery, queue_name: str) -> int:
    """Number of messages that wait in the queue. Raises ServiceDown."""

    def declare(channel: Any) -> int:
        return int(channel.queue_declare(queue_name)[1])

    try:
        with app.connection_or_acquire() as connection:
            found, _ = connection.autoretry(declare, max_retries=1, **SOON)()
            return int(found)
    except OperationalError as error:
        raise ServiceDown(f"the broker does not answer: {' '.join(str(error).split())}") from None


def require_broker(app: Celery) -> None:
    """Raises ServiceDown, in one line and without the password, if the broker cannot be reached."""
    with reaching(app):
        pass


def shown_address(connection: Connection) -> str:
    """The broker's URL as it was set, its password hidden; kombu would show a password even if there is none."""
    return redact(connection.as_uri(include_password=True))


@contextmanager
def reaching(app: Celery) -> Iterator[Connection]:
    """A connection to the broker. Raises ServiceDown, in one line, for errors of the connection or the server."""
    with app.connection_for_write(transport_options=PATIENCE) as connection:
        try:
            connection.ensure_connection(max_retries=1, **SOON)
            yield connection
        except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
            certificate = ", and, if the server asks for a certificate, SCOREBEAT_BROKER_CERT" if connection.ssl else ""
            raise ServiceDown(
                f"the broker at {shown_address(connection)} cannot be used: {one_line(error).rstrip('.')}. "
                f"Check SCOREBEAT_BROKER_URL and that the server runs{certificate}; nothing was changed."
            ) from None
