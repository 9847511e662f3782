"""Contains exceptions of a model's own code: they end at most the row or the batch that it was called for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.errors import EscapedError, kind, text

ran = False
"""Whether a model's code ran in this process: it may have started threads, or registered functions with atexit."""


@contextmanager
def contained() -> Iterator[None]:
    """A model's own code runs in the block. A BaseException of it that is no Exception (SystemExit,
    asyncio.CancelledError, ...) becomes an EscapedError.

    An exception that a signal raised is not changed: it is meant for this process, not for the model.
    """
    global ran  # noqa: PLW0603 -- of the process, and never False again
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
    if isinstance(error, KeyboardInterrupt):  # Ctrl-C raises it in the main thread, unless another handler is set
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # the pool's own handler of SIGTERM ends the process by sys.exit(): it is the innermost frame
    module, traceback = "", error.__traceback__
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return isinstance(error, SystemExit) and module.startswith("billiard.")
