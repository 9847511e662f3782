"""Open descriptors of this process."""

import os


def file_of(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of the descriptor's file; None if the descriptor is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
