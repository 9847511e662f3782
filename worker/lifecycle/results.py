"""What a process reports to its parent of a task that failed, small enough to be in the pipe whole or not at all.

Billiard adds every frame of the traceback to the result, which makes it larger than a pipe holds. The process then
waits in the middle of its write for its parent to read, and the parent of a worker that drains does not read. If the
process is ended there, the parent waits for the rest of the result for ever: it holds the writing end too, so the pipe
has no end of file. A write of at most PIPE_BUF bytes is never there in part (POSIX, `write`).
"""

import copyreg
import pickle
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.utils.serialization import UnpickleableExceptionWrapper

from scorebeat.core.errors import text

ERROR_BYTES = 1_600
TRACEBACK_BYTES = 1_600
"""Bytes; both, with what pickle adds, are less than PIPE_BUF."""


def keep_small() -> None:
    """From now on this process sends its failures without frames and without long texts; its log has more."""
    copyreg.pickle(ExceptionInfo, _in_short)


def _in_short(info: ExceptionInfo) -> tuple[Any, ...]:
    error = info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if len(pickle.dumps(error)) > ERROR_BYTES:
        kind = type(error)
        message = _shortened(text(error), ERROR_BYTES // 2)
        error = UnpickleableExceptionWrapper(kind.__module__, kind.__name__, (message,), message)
    return _info, (info.type, error, _shortened(info.traceback, TRACEBACK_BYTES), info.internal)


def _info(kind: type[BaseException], error: BaseException, traceback: str, internal: bool) -> ExceptionInfo:
    info = ExceptionInfo.__new__(ExceptionInfo)
    info.type, info.exception, info.traceback, info.internal = kind, error, traceback, internal
    return info


def _shortened(message: str, most: int) -> str:
    """At most so many bytes: the beginning, an ellipsis and the end, where a traceback has its error."""
    content = message.encode(errors="surrogatepass")  # as pickle writes it
    if len(content) <= most:
        return message
    begin, end = content[: most // 4], content[len(content) - most * 3 // 4 + 3 :]
    return f"{begin.decode(errors='ignore')}…{end.decode(errors='ignore')}"
