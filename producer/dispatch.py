"""Dispatch: sending messages for pending batches, a bounded number at a time, after the commit."""

from scorebeat.broker.send import send_batches, waiting
from scorebeat.core.errors import ServiceDown
from scorebeat.core.events import emit
from scorebeat.db.ledger import outbox as marks
from scorebeat.producer.context import Producer
from scorebeat.producer.keep_going import log_failure


def dispatch(p: Producer, queue: str) -> int:
    """Send messages for due batches of the queue, up to the window; returns how many went out.

    Scheduled runs come first, and a candidate's backlog never fills the window.
    """
    with p.engine.begin() as connection:
        back = marks.stand_back(connection, queue)
        due = marks.mark_sent(connection, queue, p.settings.window, back)
    return send_batches(p.app, queue, due) if due else 0


def dispatch_all(p: Producer) -> int:
    """Dispatch every queue. Send lost batches again: sent long ago, still pending, and the queue is empty.

    A queue that fails, for example because its lock is held, stops no other.
    """
    with p.engine.begin() as connection:
        queues = marks.waiting_queues(connection)
    sent = 0
    for queue in queues:
        with log_failure("dispatch", queue):
            _unmark_lost(p, queue)
            sent += dispatch(p, queue)
    return sent


def _unmark_lost(p: Producer, queue: str) -> None:
    try:
        if waiting(p.app, queue):
            return
    except ServiceDown as error:
        emit("broker.away", queue=queue, reason=str(error))
        return
    with p.engine.begin() as connection:
        lost = marks.unmark_lost(connection, queue, p.settings.resend_after)
    if lost:
        emit("messages.lost", queue=queue, batches=lost)
