"""What a model's own code raises, kept from ending more than the row or the batch that it was called for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from scorebeat.core.errors import EscapedError, kind, text

ran = False
"""Whether a model's code ran in this process: it may have begun threads, or asked for a word at the end."""


@contextmanager
def contained() -> Iterator[None]:
    """A model's own code runs in the block: what it raises that is no Exception (SystemExit, asyncio.CancelledError,
    ...) leaves it as an EscapedError.

    What a signal raised passes as it is: it means this process, not the model.
    """
    global ran  # noqa: PLW0603 -- of the process: code that ran cannot be taken back
    ran = True
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if _is_of_a_signal(error):
            raise
        raise EscapedError(f"{kind(error)}: {text(error)}") from error


def _is_of_a_signal(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):  # Ctrl-C is raised in the main thread, unless something else handles it
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, SystemExit) and _raised_in(error.__traceback__).startswith("billiard.")


def _raised_in(traceback: TracebackType | None) -> str:
    """The module of the innermost frame: the pool's own handler of SIGTERM ends the process by sys.exit()."""
    name = ""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return name
