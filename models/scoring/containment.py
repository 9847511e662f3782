"""Contains exceptions of a model's own code: they end at most the row or the batch that it was called for."""

from collections.abc import Iterator
from contextlib import contextmanager

from scorebeat.core.errors import EscapedError, is_of_a_signal, kind, text

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
    except Exception as error:
        text(error)  # while somebody watches the time: the model's own words may take for ever
        raise
    except BaseException as error:
        if is_of_a_signal(error):
            raise
        raise EscapedError(f"{kind(error)}: {text(error)}") from error
