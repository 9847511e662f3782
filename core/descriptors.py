"""Open descriptors of this process."""

import os


def file_of(descriptor: int) -> tuple[int, int] | None:
    """Device and number of the file that it is of; None if it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
