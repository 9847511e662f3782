"""The request of a batch in the worker's parent, which knows the process that ran it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery.worker.request import Request

_lost: ContextVar[int | None] = ContextVar("lost", default=None)


class ScoreRequest(Request):  # type: ignore[misc]  # Celery publishes no types
    """Celery's signal of a failed task lacks its process; only the request knows it."""

    def on_failure(self, *args: Any, **kwargs: Any) -> None:
        with _as_lost(self.worker_pid):
            super().on_failure(*args, **kwargs)

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
