"""Restores the state of the process that a model changes, so that no other model is affected."""

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
from functools import partial
from typing import Any

import numpy as np

from scorebeat.core.events import emit
from scorebeat.core.process.descriptors import Sentinel, file_of

Snapshot = dict[str, Any]


@dataclass(frozen=True)
class SharedState:
    """One kind of state that a whole process shares, with functions that read and restore it."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    is_kept_for_model: bool = False
    """Whether the model has its own change again at its next call: it may enter its folder once, when it loads."""


class Surroundings:
    """The changes that one loaded model made to its process; for processes in which one thread at a time calls models.

    A change that the model does not have again at its next call is logged once.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._own: Snapshot = {}
        self._logged: set[str] = set()
        self.has_closed_descriptors = False
        """Whether the model's code closed descriptors that it did not open."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The block has this model's earlier changes; after it everything is as it was before."""
        _originals.copy()
        before = {state.name: state.read() for state in _STATES}
        try:
            for state in _STATES:
                if state.name in self._own:
                    state.restore(self._own[state.name])
            yield
        finally:
            self.has_closed_descriptors = self.has_closed_descriptors or _originals.are_closed
            for state in _STATES:
                after = state.read()
                if after == before[state.name]:
                    self._own.pop(state.name, None)
                    continue
                state.restore(before[state.name])
                if state.is_kept_for_model:
                    self._own[state.name] = after
                elif state.name not in self._logged:
                    self._logged.add(state.name)
                    emit("model.surroundings_restored", logging.WARNING, model=self._model, changed=state.name)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 -- only a text is needed
    except FileNotFoundError:
        return ""


def _enter_folder(path: str) -> None:
    with suppress(OSError):  # it was deleted, so nobody can enter it again; no path of ours depends on it
        os.chdir(path)


def _restore_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    changed = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    os.environ.update(changed)
    time.tzset()


def _handlers() -> dict[int, Any]:
    """Python's handlers, and whether an alarm runs (-1); handlers that a native library set are not visible."""
    return {number: signal.getsignal(number) for number in _SIGNALS} | {-1: signal.getitimer(signal.ITIMER_REAL)[0] > 0}


def _restore_handlers(wanted: dict[int, Any]) -> None:
    """Restore the handlers. An alarm that still runs would end the process without its handler, so it is stopped."""
    if not wanted[-1]:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number in _SIGNALS:
        if wanted[number] is not None and signal.getsignal(number) != wanted[number]:
            signal.signal(number, wanted[number])


def _blocked() -> set[int]:
    """The signals that this thread blocks: such a signal could not stop the process, nor a call that takes too long."""
    return {*signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def _umask() -> int:
    """The umask; it can only be read by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found


def _restore_filters(wanted: list[Any]) -> None:
    with warnings.catch_warnings():  # its end makes Python read the filters again
        pass
    warnings.filters[:] = wanted  # type: ignore[index]  # a list, which typeshed shows as a Sequence
    with warnings.catch_warnings():
        pass


def _log() -> tuple[Any, ...]:
    root = logging.getLogger()
    ours = logging.getLogger("scorebeat")
    return [*root.handlers], root.level, root.manager.disable, ours.level, ours.disabled, ours.propagate


def _restore_log(wanted: tuple[Any, ...]) -> None:
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
    """Copies of descriptors 0, 1 and 2, made before the first call of a model in this process; only we use them."""

    pid: int = 0
    copies: list[tuple[int, tuple[int, int]] | None] = field(default_factory=list)
    """Each copy with its file; None if there was no such descriptor."""
    sentinel: Sentinel | None = None

    def copy(self) -> None:
        if self.pid != os.getpid() or self.are_closed:
            self.copies = [
                (os.dup(number), file) if (file := file_of(number)) is not None else None for number in range(3)
            ]
            self.pid, self.sentinel = os.getpid(), Sentinel()

    @property
    def are_closed(self) -> bool:
        """Whether one of them or the sentinel is closed, as by code that closes what it did not open."""
        is_lost = self.sentinel is not None and self.sentinel.is_lost()
        return is_lost or any(copy is not None and file_of(copy[0]) != copy[1] for copy in self.copies)

    def restore(self, number: int, before: tuple[int, int]) -> None:
        """Make the descriptor refer to its file again: by our copy, or by our parent's descriptor of the same file."""
        copy = self.copies[number]
        if copy is not None and copy[1] == before == file_of(copy[0]):
            os.dup2(copy[0], number)
            return
        path = f"/proc/{os.getppid()}/fd/{number}"
        with suppress(OSError):  # there is no other way to restore it
            found = os.stat(path)  # noqa: PTH116 -- of a descriptor
            if (found.st_dev, found.st_ino) == before:
                opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
                os.dup2(opened, number)
                if opened != number:
                    os.close(opened)


def _restore_streams(wanted: tuple[Any, ...]) -> None:
    for number, before in enumerate(wanted[3:]):
        if before is not None and file_of(number) != before:
            _originals.restore(number, before)
    sys.stdin, sys.stdout, sys.stderr = (_usable(number, stream) for number, stream in enumerate(wanted[:3]))


def _usable(number: int, stream: Any) -> Any:
    """The stream; if it was closed, a new one on the same descriptor, which the handlers of the log get as well."""
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


def _restore_search_path(wanted: list[str]) -> None:
    sys.path[:] = wanted


_SIGNALS = sorted(number for number in signal.valid_signals() if number < signal.SIGRTMIN)
_originals = _Originals()
_STATES = (
    SharedState("working directory", _folder, _enter_folder, is_kept_for_model=True),
    SharedState("environment variables", lambda: dict(os.environ), _restore_environment, is_kept_for_model=True),
    SharedState("sys.path", lambda: [*sys.path], _restore_search_path, is_kept_for_model=True),
    SharedState(
        "locale",
        lambda: locale.setlocale(locale.LC_ALL),
        partial(locale.setlocale, locale.LC_ALL),
        is_kept_for_model=True,
    ),
    SharedState("filters of warnings", lambda: [*warnings.filters], _restore_filters, is_kept_for_model=True),
    SharedState("numpy's handling of errors", np.geterr, lambda wanted: np.seterr(**wanted), is_kept_for_model=True),
    SharedState(
        "default time-out of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout, is_kept_for_model=True
    ),
    SharedState("signal handlers", _handlers, _restore_handlers),
    SharedState("blocked signals", _blocked, partial(signal.pthread_sigmask, signal.SIG_SETMASK)),
    SharedState("umask", _umask, os.umask),
    SharedState("log", _log, _restore_log),
    SharedState("standard streams", _streams, _restore_streams),
    SharedState("garbage collection", gc.isenabled, lambda wanted: (gc.enable if wanted else gc.disable)()),
)
"""In the order in which they are restored."""
