"""Turns of threads in a loaded model: one thread at a time, unless the model allows several."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from threading import Lock
from time import monotonic

from scorebeat.core.errors import ServiceDown
from scorebeat.models.contract import Model


@dataclass
class Turns:
    """A loaded model. A Python class may keep buffers in its object, and two threads would mix their rows."""

    model: Model
    _lock: Lock = field(default_factory=Lock)
    _since: float = inf
    """The time when the thread that is in the model entered it; infinity if no thread is in it."""

    @contextmanager
    def turn(self, seconds: float, name: str) -> Iterator[Model]:
        """The model, for the block alone. Raises ServiceDown if it is not free within so many seconds."""
        if getattr(self.model, "thread_safe", False):
            yield self.model
            return
        if not self._lock.acquire(timeout=seconds):
            raise ServiceDown(f"model {name} makes one prediction at a time, and was not free within {seconds:g} s")
        self._since = monotonic()
        try:
            yield self.model
        finally:
            self._since = inf
            self._lock.release()

    def hangs(self, seconds: float) -> bool:
        """Whether a thread has been in the model for longer than that, so that no thread may wait for it."""
        return monotonic() - self._since > seconds
