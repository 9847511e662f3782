"""The servers of a command: the settings' URLs, or the embedded stack of the data folder."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from scorebeat.core.data_folder import joined
from scorebeat.core.events import configure_logging
from scorebeat.core.settings import Settings, load_settings
from scorebeat.db.connect.engine import reachable
from scorebeat.db.schema import revisions
from scorebeat.producer.context import Producer


def found_settings() -> Settings:
    """The settings, with the URLs of a running embedded stack if none are set. Raises SettingsError."""
    settings = load_settings()
    configure_logging(settings.log_format, logging.WARNING)
    return joined(settings)


@contextmanager
def unmigrated() -> Iterator[Producer]:
    """For commands that need the database only, whatever it contains: an embedded one is started if it does not run.

    Raises SettingsError, which names the unset variable, or ServiceDown if the database does not answer.
    """
    settings = found_settings()
    with ExitStack() as stack:
        if settings.database_url is None:
            from scorebeat.ops.local.servers.embedded import database_only  # noqa: PLC0415 -- the servers' own modules

            url = stack.enter_context(database_only(settings.data))
            settings = settings.model_copy(update={"database_url": url})
        yield stack.enter_context(_producer(settings))


@contextmanager
def database() -> Iterator[Producer]:
    """For commands that need the ledger, and no broker. Raises UsageError if it was never migrated."""
    with unmigrated() as producer:
        require_ledger(producer)
        yield producer


@contextmanager
def database_and_broker() -> Iterator[Producer]:
    """For commands that send messages. Raises SettingsError, or ServiceDown if either server does not answer."""
    from scorebeat.broker.send import require_broker  # noqa: PLC0415 -- loads Celery, which few commands need

    settings = found_settings()
    settings.database(), settings.broker()
    with _producer(settings) as producer:
        require_ledger(producer)
        require_broker(producer.app)
        yield producer


def require_ledger(producer: Producer) -> None:
    with producer.engine.connect() as connection:
        revisions.require_usable(connection)


@contextmanager
def _producer(settings: Settings) -> Iterator[Producer]:
    producer = Producer(settings, "command")
    try:
        with reachable(producer.url):
            yield producer
    finally:
        producer.close()
