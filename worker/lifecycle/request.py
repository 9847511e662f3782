"""The request of a batch in the worker's parent, which knows the process that ran it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.worker.request import Request

_lost: ContextVar[int | None] = ContextVar("lost", default=None)


class ScoreRequest(Request):  # type: ignore[misc]  # Celery publishes no types
    """Celery's signal of a failed task lacks its process; only the request knows it.

    Events are such that Flower shows how each task ended.
    """

    def on_failure(self, exc_info: ExceptionInfo, *args: Any, **kwargs: Any) -> None:
        if isinstance(exc_info.exception, ExceptionWithTraceback):  # of a process that died: it has no message
            exc_info.exception = exc_info.exception.exc
        with _as_lost(self.worker_pid):
            super().on_failure(exc_info, *args, **kwargs)

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """The worker stops. Flower does not know Celery's own event of that."""
        super().cancel(*args, **kwargs)
        self.send_event("task-revoked", terminated=True, signum=None, expired=False)

    def on_timeout(self, *args: Any, **kwargs: Any) -> None:
        with _as_lost(self.worker_pid):
            super().on_timeout(*args, **kwargs)


def lost_process() -> int | None:
    """Id of the process whose task failed, by Celery's signal; None if no process had begun it."""
    return _lost.get()


@contextmanager
def _as_lost(pid: int | None) -> Iterator[None]:
    before = _lost.set(pid)
    try:
        yield
    finally:
        _lost.reset(before)
