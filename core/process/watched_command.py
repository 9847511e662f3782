"""A command that runs a model's code has a parent process, which can still report whatever that code does.

The command runs in a child process, and sends its exit code at its end. If none comes, the parent reports
what became of the child.
"""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scorebeat.core.process.descriptors import file_of

FAILED = 1
"""Exit code of a command whose process ended without a report."""
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True)
class _Line:
    """Our end of the pipe to the parent; if the model's code closed it, it is opened again through the parent."""

    descriptor: int
    file: tuple[int, int] | None
    parent: int

    def send(self, **report: object) -> None:
        message = json.dumps(report).encode() + b"\n"
        if file_of(self.descriptor) == self.file:
            os.write(self.descriptor, message)
            return
        again = os.open(f"/proc/{self.parent}/fd/{self.descriptor}", os.O_WRONLY)
        try:
            os.write(again, message)
        finally:
            os.close(again)


_line: _Line | None = None
"""Set in a process that has such a parent."""


@contextmanager
def model_code(runs_for: str, clears: Path | None = None) -> Iterator[None]:
    """A model's code runs in the block: a process that ends in it did not do what it ran for.

    `runs_for` begins the message that the parent prints then, `own:C was not added`; it deletes the folder `clears`.
    """
    if _line is not None:
        _line.send(runs_for=runs_for, clears=str(clears) if clears is not None else None)
    yield
    if _line is not None:
        _line.send(runs_for=None, clears=None)


def last_word(code: int) -> None:
    """Report that the command has printed all of its output, and ends with this exit code."""
    if _line is not None:
        _line.send(code=code)


def watched(command: Callable[[], None]) -> NoReturn:
    """Run the command in a child process, and end as it does. Never returns, in either process."""
    global _line  # noqa: PLW0603 -- of the process
    read, write = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_HANDED_ON, signal.SIGCHLD})
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(read)
        _line = _Line(write, file_of(write), parent)
        import ctypes  # noqa: PLC0415 -- every command imports this module, and health is to be fast

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = 0
        try:
            command()
        except Exception:  # noqa: BLE001 -- a fault of ours: its traceback is the message
            sys.excepthook(*sys.exc_info())
            code = FAILED
        last_word(code)
        sys.exit(code)
    received, status = _wait(child)
    os.set_blocking(read, False)
    reports: dict[str, Any] = {}
    with suppress(BlockingIOError):  # the child sent nothing
        for line in os.read(read, 1 << 16).splitlines():
            reports |= json.loads(line)  # later reports replace earlier ones
    _end(status, received, reports)


def _wait(child: int) -> tuple[set[int], int]:
    """Hand signals on until the child ends. Returns the received signals and the child's wait status."""
    received: set[int] = set()
    while True:
        about = signal.sigwaitinfo({*_HANDED_ON, signal.SIGCHLD})
        if about.si_signo != signal.SIGCHLD:
            received.add(about.si_signo)
            if about.si_code <= 0:  # somebody sent it to us alone; what a terminal sends, it sends to both
                os.kill(child, about.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return received, status


def _end(status: int, received: set[int], reports: dict[str, Any]) -> NoReturn:
    if reports.get("clears"):
        import shutil  # noqa: PLC0415 -- as above

        shutil.rmtree(reports["clears"], ignore_errors=True)
    by_signal = os.WIFSIGNALED(status)
    number = os.WTERMSIG(status) if by_signal else os.WEXITSTATUS(status)
    if by_signal and number in received:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    if not by_signal and reports.get("code") == number:
        sys.exit(number)

    how = f"ended by {signal.Signals(number).name}" if by_signal else f"ended with exit code {number}"
    runs_for = reports.get("runs_for")
    if runs_for is None:
        message = (
            f"the command's process {how} before it could report what it did: a model's code closed its pipe to "
            "the parent process. `scorebeat models list` shows what was added"
        )
    elif by_signal:
        message = (
            f"{runs_for}: the process was {how} while the model's code ran. The code did that, or crashed, or the "
            "system had no memory left for it"
        )
    else:
        message = (
            f"{runs_for}: its code ended the process with exit code {number}, or closed its pipe to the parent process"
        )
    with suppress(OSError):  # there is no standard error
        if stat.S_ISREG(os.fstat(2).st_mode):  # a file: write after what the child wrote with a descriptor of its own
            os.lseek(2, 0, os.SEEK_END)
        os.write(2, f"error: {message}\n".encode())
    sys.exit(FAILED)
