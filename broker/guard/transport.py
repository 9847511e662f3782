"""kombu's Redis transport as a worker reads from it: a message that is not ours is logged and dropped, unopened."""

import logging
from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str

from scorebeat.broker.guard.commands import MAILBOX, REPLIES, command_fault, reply_fault
from scorebeat.broker.guard.envelope import envelope_fault, kept_fault, opened
from scorebeat.core.events import emit

LONGEST_NAME = 100
"""Characters of a queue's or channel's name that are logged."""


def refuse(source: str, reason: str) -> None:
    """Log that a message from this queue or channel was dropped, never its content."""
    emit("message.refused", logging.WARNING, place=source[:LONGEST_NAME], reason=reason)


class QoS(redis.QoS):
    """Messages in progress, which the broker keeps too, under keys that others may write."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        with self.channel.conn_or_acquire(client) as connection:
            raw = connection.hget(self.unacked_key, tag)
            reason = raw and kept_fault(raw)
            if reason:
                refuse(self.unacked_key, reason)
                connection.hdel(self.unacked_key, tag)
                connection.zrem(self.unacked_index_key, tag)
                return
        super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # kombu publishes no types


class Channel(redis.Channel):
    """Checks each message, from a queue or by broadcast, before kombu opens it."""

    QoS = QoS

    def fault(self, source: str, raw: bytes | str) -> str | None:
        """Why the broker's bytes, from the queue or channel of this name, are dropped; None for a message of ours."""
        reason = envelope_fault(raw)
        if reason is not None or not source.endswith(MAILBOX):
            return reason
        return (reply_fault if source.endswith(REPLIES) else command_fault)(*opened(raw))

    def _create_client(self, asynchronous: bool = False) -> Any:
        made = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu publishes no types
        if asynchronous:  # the one that waits for messages
            made.set_response_callback("BRPOP", self._popped)
        return made

    def _popped(self, popped: Any, **_: Any) -> Any:
        """The popped message; None if it is refused, as if none had come in time."""
        if popped is None:
            return None
        queue, raw = popped
        source = bytes_to_str(queue)
        reason = self.fault(source, raw)
        if reason is None:
            return popped
        refuse(source, reason)
        return None

    def _handle_message(self, client: Any, response: Any) -> dict[str, Any]:
        message: dict[str, Any] = super()._handle_message(client, response)  # type: ignore[no-untyped-call]  # kombu publishes no types
        if bytes_to_str(message["type"]).endswith("message") and message["data"]:
            source, raw = bytes_to_str(message["channel"]), message["data"]
            reason = self.fault(source, raw)
            if reason is not None:
                refuse(source, reason)
                message["data"] = None  # kombu passes over what is empty
        return message


class Transport(redis.Transport):
    """The transport of the connection that a worker reads from; it writes over kombu's own."""

    Channel = Channel
