"""kombu's Redis transport as a worker reads from it: what is no message of ours is logged and dropped, unopened."""

import logging
from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str

from scorebeat.broker.guard.commands import ANSWERS, MAILBOX, answer_fault, command_fault
from scorebeat.broker.guard.envelope import envelope_fault, kept_fault, opened
from scorebeat.core.events import emit

LONGEST_PLACE = 100
"""Characters of a queue's or channel's name that are told."""


def refuse(place: str, reason: str) -> None:
    """Tell that a message was dropped; never what was in it."""
    emit("message.refused", logging.WARNING, place=place[:LONGEST_PLACE], reason=reason)


class QoS(redis.QoS):
    """Messages in progress, which the broker keeps too, where others may write."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        with self.channel.conn_or_acquire(client) as reached:
            raw = reached.hget(self.unacked_key, tag)
            reason = raw and kept_fault(raw)
            if reason:
                refuse(self.unacked_key, reason)
                reached.hdel(self.unacked_key, tag)
                reached.zrem(self.unacked_index_key, tag)
                return
        super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # kombu publishes no types


class Channel(redis.Channel):
    """Looks at what comes, from a queue or by broadcast, before kombu does."""

    QoS = QoS

    def fault(self, place: str, raw: bytes | str) -> str | None:
        """Why the broker's bytes, from the queue or channel of this name, are dropped; None for a message of ours."""
        reason = envelope_fault(raw)
        if reason is not None or not place.endswith(MAILBOX):
            return reason
        return (answer_fault if place.endswith(ANSWERS) else command_fault)(*opened(raw))

    def _create_client(self, asynchronous: bool = False) -> Any:
        made = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu publishes no types
        if asynchronous:  # the one that waits for messages
            made.set_response_callback("BRPOP", self._popped)
        return made

    def _popped(self, answer: Any, **_: Any) -> Any:
        """What was popped; nothing, as when no message came in time, in place of what is none."""
        if answer is None:
            return None
        queue, raw = answer
        place = bytes_to_str(queue)
        reason = self.fault(place, raw)
        if reason is None:
            return answer
        refuse(place, reason)
        return None

    def _handle_message(self, client: Any, response: Any) -> dict[str, Any]:
        told: dict[str, Any] = super()._handle_message(client, response)  # type: ignore[no-untyped-call]  # kombu publishes no types
        if bytes_to_str(told["type"]).endswith("message") and told["data"]:
            place, raw = bytes_to_str(told["channel"]), told["data"]
            reason = self.fault(place, raw)
            if reason is not None:
                refuse(place, reason)
                told["data"] = None  # kombu passes over what is empty
        return told


class Transport(redis.Transport):
    """Of the connection that a worker reads from; what it writes goes over kombu's own."""

    Channel = Channel
