"""Who else uses the broker's database: other installations, other Celery applications, programs of an older version."""

import time
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError

from scorebeat.broker.installation_app import InstallationApp
from scorebeat.broker.send import reaching
from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE

UNTIL_0_1 = "scorebeat:"
"""What the keys of every installation began with before each had a prefix of its own."""
BINDING = "_kombu.binding."
"""In one key of each exchange, between the prefix and the exchange's name."""
LOOK_FOR = 5.0
"""Seconds; a large database has millions of keys."""
REPLY_WITHIN = 1.0
"""Seconds that workers have to reply."""


@dataclass(frozen=True)
class Neighbour:
    """Keys under another prefix than ours."""

    prefix: str
    exchanges: frozenset[str]
    listening: int
    """Number of workers that take commands under that prefix now."""

    @property
    def is_older(self) -> bool:
        return self.prefix == UNTIL_0_1 and self._is_scorebeat

    @property
    def _is_scorebeat(self) -> bool:
        return bool(self.exchanges & {CONTROL_QUEUE, PLAN_QUEUE}) or self.prefix.startswith(UNTIL_0_1)

    def __str__(self) -> str:
        who = "another installation of Scorebeat" if self._is_scorebeat else "another Celery application"
        keys = f"keys {self.prefix}*" if self.prefix else f"keys without a prefix, such as {min(self.exchanges)}"
        count = f"{self.listening} worker{'s' * (self.listening != 1)}"
        return f"{who} ({keys}, {count} listening)"


def neighbours(app: InstallationApp) -> list[Neighbour] | None:
    """In the order of their prefixes; None if our user may not see keys of others. Raises ServiceDown.

    None of their keys is read or written. An empty message, which kombu passes over, counts the workers that listen.
    """
    found: dict[str, set[str]] = {}
    with reaching(app) as connection, connection.channel() as channel:
        client: Any = Redis(connection_pool=channel.pool)
        try:
            cursor, deadline = None, time.monotonic() + LOOK_FOR
            while cursor != 0 and time.monotonic() < deadline:
                cursor, keys = client.scan(cursor or 0, match=f"*{BINDING}*", count=1000)
                for key in keys:
                    prefix, _, exchange = key.decode(errors="replace").partition(BINDING)
                    found.setdefault(prefix, set()).add(exchange)
            found.pop(app.prefix(), None)
            database = channel.pool.connection_kwargs["db"]
            return [
                Neighbour(prefix, frozenset(names), client.publish(f"{prefix}/{database}.celery.pidbox", ""))
                for prefix, names in sorted(found.items())
            ]
        except NoPermissionError:
            return None


def responding(app: InstallationApp) -> set[str]:
    """Names of the workers that reply under our prefix. Raises ServiceDown."""
    with reaching(app):
        replies = app.control.ping(timeout=REPLY_WITHIN)
    return {name for reply in replies for name in reply}
