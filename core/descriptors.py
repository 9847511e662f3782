"""Open descriptors of this process."""

import os
from pathlib import Path


def file_of(descriptor: int) -> tuple[int, int] | None:
    """Device and number of the file that it is of; None if it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def opened() -> dict[int, tuple[int, int]]:
    """All of them, each with its file; none if the system has no list of them."""
    try:
        numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    except OSError:
        return {}
    found = {number: file_of(number) for number in numbers}
    return {number: file for number, file in found.items() if file is not None}
