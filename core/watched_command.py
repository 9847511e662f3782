"""A command that runs a model's code has a parent process: whatever that code does, somebody can still report it.

The command runs in a child process, and sends its exit code at its end. Where none came, the parent reports
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

from scorebeat.core.descriptors import file_of

FAILED = 1
"""Exit code of a command whose process ended without a word."""
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True)
class _Line:
    """Our end of the pipe to the parent, and where it is found again when somebody closed ours."""

    descriptor: int
    file: tuple[int, int] | None
    parent: int

    def send(self, **word: object) -> None:
        message = json.dumps(word).encode() + b"\n"
        if file_of(self.descriptor) == self.file:
            os.write(self.descriptor, message)
            return
        again = os.open(f"/proc/{self.parent}/fd/{self.descriptor}", os.O_WRONLY)
        try:
            os.write(again, message)
        finally:
            os.close(again)


_line: _Line | None = None
"""Of a process that has such a parent."""


@contextmanager
def model_code(runs_for: str, clears: Path | None = None) -> Iterator[None]:
    """A model's code runs in the block: a process that ends in it without a word did not do what it ran for.

    `runs_for` begins the message that the parent prints then, `own:C was not added`; it deletes the folder `clears`.
    """
    if _line is not None:
        _line.send(runs_for=runs_for, clears=str(clears) if clears is not None else None)
    yield
    if _line is not None:
        _line.send(runs_for=None, clears=None)


def last_word(code: int) -> None:
    """The command said what there was to say, and ends with this exit code."""
    if _line is not None:
        _line.send(code=code)


def watched(command: Callable[[], None]) -> NoReturn:
    """Run the command in a child process, and end as it does. Returns in no process."""
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
        _run(command)
    came, status = _wait(child)
    os.set_blocking(read, False)
    words = _words(read)
    _end(status, came, words)


def _run(command: Callable[[], None]) -> NoReturn:
    try:
        command()
    except Exception:  # noqa: BLE001 -- a fault of ours: its traceback is what there is to say
        sys.excepthook(*sys.exc_info())
        last_word(FAILED)
        sys.exit(FAILED)
    last_word(0)
    sys.exit(0)


def _wait(child: int) -> tuple[set[int], int]:
    """Hand signals on until the child ended; which came, and its wait status."""
    came: set[int] = set()
    while True:
        about = signal.sigwaitinfo({*_HANDED_ON, signal.SIGCHLD})
        if about.si_signo != signal.SIGCHLD:
            came.add(about.si_signo)
            if about.si_code <= 0:  # somebody sent it to us alone; what a terminal sends, it sends to both
                os.kill(child, about.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return came, status


def _words(read: int) -> dict[str, Any]:
    """All that the child sent, the later words in place of the earlier."""
    words: dict[str, Any] = {}
    try:
        sent = os.read(read, 1 << 16)
    except BlockingIOError:
        return words
    for line in sent.splitlines():
        words |= json.loads(line)
    return words


def _end(status: int, came: set[int], words: dict[str, Any]) -> NoReturn:
    if words.get("clears"):
        import shutil  # noqa: PLC0415 -- as above

        shutil.rmtree(words["clears"], ignore_errors=True)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in came:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    if number == 0 and words.get("code") == os.WEXITSTATUS(status):
        sys.exit(os.WEXITSTATUS(status))
    _speak(f"error: {_what_happened(status, words.get('runs_for'))}\n")
    sys.exit(FAILED)


def _what_happened(status: int, runs_for: str | None) -> str:
    by_signal = os.WIFSIGNALED(status)
    number = os.WTERMSIG(status) if by_signal else os.WEXITSTATUS(status)
    how = f"ended by {signal.Signals(number).name}" if by_signal else f"ended with exit code {number}"
    if runs_for is None:
        return (
            f"the command's process {how} before it could say what it did: a model's code took away what it speaks by. "
            "`scorebeat models list` shows what was added"
        )
    if by_signal:
        return (
            f"{runs_for}: the process was {how} while the model's code ran. The code did that, or crashed, or the "
            "system had no memory left for it"
        )
    return f"{runs_for}: its code ended the process with exit code {number}, or took away what the command speaks by"


def _speak(message: str) -> None:
    """On standard error; in a file behind what the child wrote there by a descriptor of its own."""
    with suppress(OSError):  # there is none
        if stat.S_ISREG(os.fstat(2).st_mode):
            os.lseek(2, 0, os.SEEK_END)
        os.write(2, message.encode())
