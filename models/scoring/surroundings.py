"""What a model changes of the process around it: for its own calls only, so that no other model finds it changed."""

import gc
import locale
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scorebeat.core.descriptors import file_of
from scorebeat.core.events import emit

Snapshot = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """One thing that a whole process shares: how it is read, and how it is put back."""

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], None]
    is_the_models_own: bool = False
    """Whether the model finds it at its next call as it left it: one may enter its own folder once, when it loads."""


class Surroundings:
    """What one loaded model did to the process around it; for a process in which one thread at a time calls models.

    What the model does not find again at its next call is told once.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._own: Snapshot = {}
        self._told: set[str] = set()
        self.has_closed_descriptors = False
        """The model's code closed descriptors that it did not open."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The block sees what this model changed before; afterwards everything is as it was before the block."""
        _originals.keep()
        before = {kept.name: kept.read() for kept in _KEPT}
        try:
            self._enter()
            yield
        finally:
            self._leave(before)

    def _enter(self) -> None:
        for kept in _KEPT:
            if kept.name in self._own:
                kept.put_back(self._own[kept.name])

    def _leave(self, before: Snapshot) -> None:
        self.has_closed_descriptors = self.has_closed_descriptors or _originals.are_closed
        for kept in _KEPT:
            after = kept.read()
            if after == before[kept.name]:
                self._own.pop(kept.name, None)
                continue
            kept.put_back(before[kept.name])
            if kept.is_the_models_own:
                self._own[kept.name] = after
            elif kept.name not in self._told:
                self._told.add(kept.name)
                emit("model.surroundings_restored", logging.WARNING, model=self._model, changed=kept.name)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 -- a text that nothing is asked of
    except FileNotFoundError:
        return ""


def _enter_folder(path: str) -> None:
    with suppress(OSError):  # it was deleted: then there is none to go back to, and no path of ours needs it
        os.chdir(path)


def _put_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    changed = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    os.environ.update(changed)
    time.tzset()


def _handlers() -> dict[int, Any]:
    """Of Python; one that a library set by itself is not seen here."""
    return {number: signal.getsignal(number) for number in _SIGNALS} | {-1: signal.getitimer(signal.ITIMER_REAL)[0] > 0}


def _put_handlers(wanted: dict[int, Any]) -> None:
    """An alarm that still runs would end the process once its handler is gone."""
    if not wanted[-1]:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number in _SIGNALS:
        if wanted[number] is not None and signal.getsignal(number) != wanted[number]:
            signal.signal(number, wanted[number])


def _blocked() -> set[int]:
    """Of this thread: a signal that it blocks would neither stop the process nor end a call that takes too long."""
    return {*signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def _put_blocked(wanted: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted)


def _umask() -> int:
    """It can only be read by setting it."""
    found = os.umask(0o077)
    _put_umask(found)
    return found


def _put_umask(wanted: int) -> None:
    os.umask(wanted)


def _put_filters(wanted: list[Any]) -> None:
    with warnings.catch_warnings():  # its end makes Python look at the filters anew
        pass
    warnings.filters[:] = wanted  # type: ignore[index]  # a list, which typeshed shows as a Sequence
    with warnings.catch_warnings():
        pass


def _log() -> tuple[Any, ...]:
    root = logging.getLogger()
    ours = logging.getLogger("scorebeat")
    return [*root.handlers], root.level, root.manager.disable, ours.level, ours.disabled, ours.propagate


def _put_log(wanted: tuple[Any, ...]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("scorebeat")
    handlers, level, disabled, own_level, own_disabled, propagates = wanted
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.disable(disabled)
    ours.setLevel(own_level)
    ours.disabled, ours.propagate = own_disabled, propagates


def _streams() -> tuple[Any, ...]:
    return (sys.stdin, sys.stdout, sys.stderr, *(file_of(number) for number in range(3)))


@dataclass
class _Originals:
    """Copies of descriptors 0, 1 and 2, made when a model is first called in this process; only we know of them."""

    pid: int = 0
    copies: list[tuple[int, tuple[int, int]] | None] = field(default_factory=list)
    """Each with the file that it is of; None if there was no such descriptor."""

    def keep(self) -> None:
        if self.pid != os.getpid() or self.are_closed:
            self.pid, self.copies = os.getpid(), [_copy(number) for number in range(3)]

    @property
    def are_closed(self) -> bool:
        """One of them is, which only code that closes what it did not open does."""
        return any(copy is not None and file_of(copy[0]) != copy[1] for copy in self.copies)

    def put_back(self, number: int, before: tuple[int, int]) -> None:
        """The descriptor is of that file again: by our copy, or as our parent has it where that is the same file."""
        copy = self.copies[number]
        if copy is not None and copy[1] == before == file_of(copy[0]):
            os.dup2(copy[0], number)
            return
        path = f"/proc/{os.getppid()}/fd/{number}"
        with suppress(OSError):  # there is no other way to have it back
            found = os.stat(path)  # noqa: PTH116 -- of a descriptor
            if (found.st_dev, found.st_ino) == before:
                opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
                os.dup2(opened, number)
                if opened != number:
                    os.close(opened)


def _copy(descriptor: int) -> tuple[int, tuple[int, int]] | None:
    file = file_of(descriptor)
    return (os.dup(descriptor), file) if file is not None else None


def _put_streams(wanted: tuple[Any, ...]) -> None:
    for number, before in enumerate(wanted[3:]):
        if before is not None and file_of(number) != before:
            _originals.put_back(number, before)
    sys.stdin, sys.stdout, sys.stderr = (_usable(number, stream) for number, stream in enumerate(wanted[:3]))


def _usable(number: int, stream: Any) -> Any:
    """The stream, or another one on the same descriptor where somebody closed it; so have the handlers of the log."""
    with suppress(AttributeError, ValueError):  # None, or detached from its descriptor
        if not stream.closed:
            return stream
    if file_of(number) is None:
        return stream
    made = open(number, "w" if number else "r", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 -- as long as the process
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            handler.setStream(made)
    return made


def _put_search_path(wanted: list[str]) -> None:
    sys.path[:] = wanted


def _put_collection(wanted: bool) -> None:
    (gc.enable if wanted else gc.disable)()


def _put_numpy(wanted: dict[str, Any]) -> None:
    np.seterr(**wanted)


def _put_locale(wanted: str) -> None:
    locale.setlocale(locale.LC_ALL, wanted)


_SIGNALS = sorted(number for number in signal.valid_signals() if number < signal.SIGRTMIN)
_originals = _Originals()
_KEPT = (
    Kept("working directory", _folder, _enter_folder, is_the_models_own=True),
    Kept("environment variables", lambda: dict(os.environ), _put_environment, is_the_models_own=True),
    Kept("sys.path", lambda: [*sys.path], _put_search_path, is_the_models_own=True),
    Kept("locale", lambda: locale.setlocale(locale.LC_ALL), _put_locale, is_the_models_own=True),
    Kept("filters of warnings", lambda: [*warnings.filters], _put_filters, is_the_models_own=True),
    Kept("numpy's handling of errors", np.geterr, _put_numpy, is_the_models_own=True),
    Kept("default time-out of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout, is_the_models_own=True),
    Kept("signal handlers", _handlers, _put_handlers),
    Kept("blocked signals", _blocked, _put_blocked),
    Kept("umask", _umask, _put_umask),
    Kept("log", _log, _put_log),
    Kept("standard streams", _streams, _put_streams),
    Kept("garbage collection", gc.isenabled, _put_collection),
)
"""In the order in which they are put back."""
