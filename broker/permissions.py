"""The least rights of our user on the broker: each command is tried on keys that are deleted afterwards."""

import uuid
from collections.abc import Iterator
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from scorebeat.broker.installation_app import InstallationApp
from scorebeat.broker.send import reaching, shown_address
from scorebeat.core.errors import ServiceDown

LASTS = 60_000
"""Milliseconds after which the keys of a killed `check` expire."""
NO_SCRIPT = "0" * 40
TRIED = (
    (
        "PING", "TIME", "CLIENT|SETINFO LIB-NAME redis-py",
        "LPUSH {0}list 1", "RPUSH {0}list 1", "PEXPIRE {0}list {1}", "LLEN {0}list", "BRPOP {0}list 1", "RPOP {0}list",
        "HSET {0}hash a 1", "PEXPIRE {0}hash {1}", "HGET {0}hash a", "HDEL {0}hash a",
        "SADD {0}set a", "PEXPIRE {0}set {1}", "SMEMBERS {0}set", "SREM {0}set a",
        "ZADD {0}sorted 1 a", "PEXPIRE {0}sorted {1}", "ZRANGE {0}sorted 0 1", "ZRANGEBYSCORE {0}sorted 0 1",
        "ZREM {0}sorted a",
        "SET {0}text 1 PX {1}", "GET {0}text", "EXISTS {0}text", "DEL {0}text {0}list",
        "SCRIPT|EXISTS {2}", "EVALSHA {2} 1 {0}text", "SCRIPT|LOAD return", "PUBLISH {3}celeryev/check 1",
        "UNWATCH", "WATCH {0}text", "EXEC", "MULTI",
    ),
    ("PUNSUBSCRIBE", "PSUBSCRIBE {3}celery.pidbox", "PSUBSCRIBE {3}celeryev/*", "PSUBSCRIBE {3}celeryev/worker.*"),
)  # fmt: skip
"""Commands of a group share a connection, which is closed then; an error such as `EXEC without MULTI` is no refusal.

A user may subscribe by a pattern only if the very same pattern is among its channels.
"""


def require_rights(app: InstallationApp) -> None:
    """Raises ServiceDown naming every command that the broker refuses our user, of those that Celery and we use."""
    with reaching(app) as connection, connection.channel() as channel:
        refused = list(dict.fromkeys(_refused(channel.pool, app.prefix())))
        address = shown_address(connection)
    if refused:
        raise ServiceDown(
            f"the broker at {address} refuses our user (NOPERM): {', '.join(refused)}. Work waits until it is "
            "allowed; docs/how-to/own-servers.md has all that the user needs"
        )


def _refused(pool: Any, prefix: str) -> Iterator[str]:
    key_prefix = f"{prefix}check:{uuid.uuid4().hex}:"
    channels = f"{prefix}/{pool.connection_kwargs['db']}."
    for group in TRIED:
        connection = pool.get_connection()
        try:
            for line in group:
                command, *words = line.format(key_prefix, LASTS, NO_SCRIPT, channels).split()
                if not _is_allowed(connection, *command.split("|"), *words):
                    yield " ".join([command.lower(), *words[:1]]) if command == "PSUBSCRIBE" else command.lower()
        finally:
            connection.disconnect()  # it watches, waits for its EXEC, or is subscribed
            pool.release(connection)


def _is_allowed(connection: Any, *words: str) -> bool:
    connection.send_command(*words)
    try:
        connection.read_response(push_request=True)
    except ResponseError as error:  # of EXEC, a refusal is another error, with the same message
        return not (isinstance(error, NoPermissionError) or "NOPERM" in str(error))
    return True
