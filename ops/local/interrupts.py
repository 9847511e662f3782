"""SIGINT, SIGTERM and SIGHUP as a count: the first one means stop, the second one means hurry."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts the signals to stop while its `with` block lasts; enter it from the main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._raises = False
        self._before: dict[signal.Signals, Any] = {}
        # reentrant, unlike threading.Event: a handler may interrupt the very thread that waits
        self._wake: SimpleQueue[None] = SimpleQueue()

    def __enter__(self) -> "Interrupts":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def stopping(self) -> bool:
        return self.count > 0

    @property
    def hurried(self) -> bool:
        return self.count > 1

    def wait(self, seconds: float) -> None:
        """Return after that time, or as soon as a signal comes."""
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return

    @contextmanager
    def raising(self) -> Iterator[None]:
        """A signal raises KeyboardInterrupt in the block, for code that does not check; also if it came before."""
        self._raises = True
        try:
            if self.stopping:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises = False

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._wake.put(None)
        if self._raises:
            self._raises = False  # once: the interrupted code must be able to clean up
            raise KeyboardInterrupt
