"""The Celery application of one installation: whose keys on the broker begin with a prefix that the ledger keeps."""

import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection, ConnectionPool, PooledConnection

from scorebeat.broker.events import InstallationEvents
from scorebeat.core.errors import PrefixUnknown

OPTION = "global_keyprefix"
"""kombu's transport option: the prefix of every key, queue and channel."""

UNREAD_PREFIX = "scorebeat:unread:"
"""Begins a prefix of keys that nobody reads or writes, in use until the ledger's prefix has been read."""
ReadPrefix = Callable[[], str]
"""Raises PrefixUnknown while the ledger cannot be read."""


def _unreadable() -> str:
    raise PrefixUnknown("this process has no ledger to read the prefix of the broker's keys from")


class InstallationApp(Celery):  # type: ignore[misc]  # Celery publishes no types
    """Reads the prefix once, when the broker is first used.

    A spawned process has only the settings. It sends under its parent's prefix, or not at all.
    """

    read_prefix: ReadPrefix = staticmethod(_unreadable)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "amqp": InstallationAmqp, "events": InstallationEvents})

    def take_prefix(self, prefix: str | None, read: ReadPrefix) -> None:
        """Use this prefix, or if it is None have `read` called when one is needed, with an unused prefix until then.

        The unused prefix is this application's alone: kombu lets connections of the same options share a pool.
        """
        self.read_prefix = read
        self._set(prefix or f"{UNREAD_PREFIX}{uuid.uuid4().hex}:")

    def prefix(self) -> str:
        """What all keys begin with. Raises PrefixUnknown."""
        known: str = self.conf.broker_transport_options.get(OPTION, UNREAD_PREFIX)
        if known.startswith(UNREAD_PREFIX):
            known = self.read_prefix()
            self._set(known)
        return known

    def _set(self, prefix: str) -> None:
        """Store it in the settings, which a spawned process and Flower's page of the broker read."""
        self.conf.broker_transport_options = self.conf.broker_transport_options | {OPTION: prefix}


class InstallationAmqp(AMQP):  # type: ignore[misc]  # Celery publishes no types
    """Makes connections that know the prefix before they send anything, in a pool or alone.

    If it cannot be read, no connection can be established: Celery and kombu do what they do without a broker.
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
