"""The end of a command that ran a model's code: at once, and with nothing left behind after a signal to stop."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGHUP)


def end(code: int) -> None:
    """End the process with this exit code. If a model's code ran, do not wait for its threads, its child processes or
    its exit handlers: the command might never end.
    """
    containment = sys.modules.get("scorebeat.models.scoring.containment")
    witness = sys.modules.get("scorebeat.core.process.watched_command")

    def report() -> None:
        if witness is not None:  # else the process has no parent that waits for its exit code
            witness.last_word(code)

    if not getattr(containment, "ran", False):
        report()
        sys.exit(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        report()
    finally:
        os._exit(code)


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """A signal to stop ends the block as Ctrl-C does, so that the block cleans up; then the process ends by that
    signal."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.signal(received[0], signal.SIG_DFL)
            os.kill(os.getpid(), received[0])
