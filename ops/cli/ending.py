"""How a command ends that ran a model's code: at once, and with nothing left behind when it is told to stop."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGHUP)


def end(code: int) -> None:
    """End the process with this exit code. Where a model's code ran nobody waits for threads that it began, child
    processes, or what it registered for the end: such a command would never end.
    """
    containment = sys.modules.get("scorebeat.models.scoring.containment")
    witness = sys.modules.get("scorebeat.core.watched_command")
    report = witness.last_word if witness is not None else _to_nobody
    if not getattr(containment, "ran", False):
        report(code)
        sys.exit(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        report(code)
    finally:
        os._exit(code)


def _to_nobody(code: int) -> None:
    """The process has no parent that waits for its exit code."""


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """A signal to stop leaves the block as Ctrl-C does, so that what it clears away at its end is cleared away; then
    the process ends by that signal."""
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for stopped in came[:1]:
            signal.signal(stopped, signal.SIG_DFL)
            os.kill(os.getpid(), stopped)
