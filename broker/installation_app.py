"""The Celery application of one installation: whose keys on the broker begin with a prefix that the ledger keeps."""

import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection, ConnectionPool, PooledConnection

from scorebeat.core.errors import PrefixUnknown

OPTION = "global_keyprefix"
"""kombu's transport option: of every key, queue and channel."""

UNREAD_PREFIX = "scorebeat:unread:"
"""Begins the prefix of keys that nobody reads or writes, until the ledger has told the installation's own."""
ReadPrefix = Callable[[], str]
"""Raises PrefixUnknown while the ledger cannot be read."""


def _unreadable() -> str:
    raise PrefixUnknown("this process has no ledger to read the prefix of the broker's keys from")


class InstallationApp(Celery):  # type: ignore[misc]  # Celery publishes no types
    """Asks for the prefix when the broker is first used, and once.

    A spawned process has the settings alone. It sends what its parent's prefix is for, or nothing.
    """

    read_prefix: ReadPrefix = staticmethod(_unreadable)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "amqp": InstallationAmqp})

    def take_prefix(self, given: str | None, read: ReadPrefix) -> None:
        """The prefix itself, or what reads it when it is needed; until then its place is taken by one of no use.

        That one is this application's alone: kombu lets connections of the same options share a pool.
        """
        self.read_prefix = read
        self._set(given or f"{UNREAD_PREFIX}{uuid.uuid4().hex}:")

    def prefix(self) -> str:
        """What all keys begin with. Raises PrefixUnknown."""
        known: str = self.conf.broker_transport_options.get(OPTION, UNREAD_PREFIX)
        if known.startswith(UNREAD_PREFIX):
            known = self.read_prefix()
            self._set(known)
        return known

    def _set(self, prefix: str) -> None:
        """In the settings: a spawned process and Flower's page of the broker look there."""
        self.conf.broker_transport_options = self.conf.broker_transport_options | {OPTION: prefix}


class InstallationAmqp(AMQP):  # type: ignore[misc]  # Celery publishes no types
    """Makes connections that know the prefix before they send anything, in a pool or alone.

    Where it cannot be read, they cannot be established: Celery and kombu do what they do without a broker.
    """

    def __init__(self, app: InstallationApp) -> None:
        super().__init__(app)

        class Prefixed(Connection):
            def _establish_connection(self) -> Any:
                self.transport_options = {**(self.transport_options or {}), OPTION: app.prefix()}
                return super()._establish_connection()  # type: ignore[no-untyped-call]  # kombu types few functions

        class InPool(Prefixed, PooledConnection):
            pass

        class OwnPool(ConnectionPool):
            def new(self) -> InPool:
                return InPool(self, **self.connection.info())  # type: ignore[no-untyped-call]  # as above

        class Alone(Prefixed):
            def Pool(self, limit: int | None = None, **options: Any) -> OwnPool:  # noqa: N802 -- kombu's name
                return OwnPool(self, limit, **options)  # type: ignore[no-untyped-call]  # as above

        self.Connection = self.BrokerConnection = Alone
