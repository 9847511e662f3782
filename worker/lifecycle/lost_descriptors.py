"""A model's code that closes descriptors which it did not open: its process ends at that call, and says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scorebeat.core.descriptors import file_of, opened
from scorebeat.worker.lifecycle import deadlines

EXIT = 74
"""EX_IOERR of sysexits.h."""
REASON = (
    "The model's code closed descriptors that it did not open, as os.closerange does: the process had lost its "
    "connections."
)


@dataclass
class Ours:
    """Descriptors that this process had before it loaded a model, whose numbers no model was ever given."""

    _files: dict[int, tuple[int, int]] = field(
        default_factory=lambda: {at: of for at, of in opened().items() if at > 2}
    )
    """But for 0, 1 and 2, which are put back."""

    @contextmanager
    def required(self) -> Iterator[None]:
        """The process ends with the block if the block has closed one: its row or rows are found as those that kill it.

        What Scorebeat itself closed meanwhile is not ours any more.
        """
        self._files = {at: of for at, of in self._files.items() if file_of(at) == of}
        try:
            yield
        finally:
            if any(file_of(at) != of for at, of in self._files.items()):
                _end()


def _end() -> None:
    """No line can be sent any more: the parent finds the reason in the memory that it shares."""
    shared = deadlines.shared()
    if shared is not None:
        shared.leave(REASON)
    os._exit(EXIT)
