"""What a process writes about a failed task is so short that the kernel takes it at once, as POSIX promises."""

import copyreg
import pickle
import select
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.pool import READY
from billiard.reduction import ForkingPickler
from celery.utils.serialization import get_pickled_exception

from scorebeat.core.errors import LONGEST, ModelError
from scorebeat.worker.lifecycle import results

HEADER = 4
"""Bytes of a length, which billiard puts before each message."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, ExceptionInfo, None)  # removed, or put back, after the test
    results.keep_small()


class MuteError(Exception):
    def __repr__(self) -> str:
        raise AttributeError("no words")


def failed(error: BaseException, frames: int = 30) -> ExceptionInfo:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        raise error

    try:
        deeper(frames)
    except BaseException:  # noqa: BLE001 -- tasks raise anything
        return ExceptionInfo()
    raise AssertionError


def written(info: ExceptionInfo) -> bytes:
    """The message of a process to its parent, of the form that Celery's tracer returns."""
    return bytes(ForkingPickler.dumps((READY, (12_345_678, 90, (True, (1, info, 12.345_678_9)), 123))))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("short"),
        ValueError("long " * 100_000),
        ValueError("\N{SNOWMAN}" * 100_000),
        ValueError("\ud800" * 100_000),
        ValueError("\ud800" * 533),
        ModelError("\ud800" * 795),
        ValueError(*range(10_000)),
        ModelError("m" * LONGEST),
        MuteError("x" * 100_000),
        KeyError("a" * results.ERROR_BYTES),
    ],
    ids=lambda error: f"{type(error).__name__} of {len(error.args)}",
)
def test_a_failure_is_written_at_once(error: Exception) -> None:
    message = written(failed(error))

    assert HEADER + len(message) <= select.PIPE_BUF
    pickle.loads(message)  # noqa: S301 -- as billiard does it


def test_billiard_alone_writes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(copyreg.dispatch_table, ExceptionInfo)

    assert len(written(failed(ValueError("short")))) > select.PIPE_BUF


def test_a_short_failure_arrives_as_it_was() -> None:
    info = failed(ModelError("the model dislikes row 7"), frames=1)

    read: Any = pickle.loads(written(info))[1][2][1][1]  # noqa: S301

    assert (read.type, read.traceback, read.internal) == (info.type, info.traceback, info.internal)
    assert repr(read.exception) == "ModelError('the model dislikes row 7')"


def test_a_long_failure_keeps_its_beginning_and_its_end() -> None:
    info = failed(ValueError("the beginning " + "." * 100_000 + " the end"), frames=3)

    read: Any = pickle.loads(written(info))[1][2][1][1]  # noqa: S301

    shown = repr(get_pickled_exception(read.exception))  # as Celery puts it in the event
    assert shown.startswith("ValueError('the beginning ..")
    assert shown.endswith(".. the end')")
    assert read.traceback.startswith("Traceback (most recent call last)")
    assert read.traceback.endswith(".. the end\n")
