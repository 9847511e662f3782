"""The data folders of test servers, in memory: on a disk the files of a new database cost fifteen times as much CPU."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 -- each folder in it is made anew, under a name that nobody can foresee
ROOM = 2 * 1024**3
"""Bytes that must be free; the servers of a session take a tenth of that."""
NAME = "scorebeat-tests-{pid}-"


@contextmanager
def in_memory(data: Path) -> Iterator[None]:
    """Until the end of the block `data` is a link to an empty folder in memory; then it is a folder with the logs."""
    made = new_folder()
    data.parent.mkdir(parents=True, exist_ok=True)
    data.symlink_to(made)
    try:
        yield
    finally:
        data.unlink()
        data.mkdir()
        for log in made.glob("*.log"):
            shutil.copy(log, data)
        shutil.rmtree(made)


def new_folder() -> Path:
    """A new folder in memory, or, if there is not enough room, among the other temporary ones."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    home = MEMORY if has_room else Path(tempfile.gettempdir())
    for left in home.glob(NAME.format(pid="*") + "*"):
        if not Path("/proc", left.name.split("-")[2]).exists():  # its process was killed
            shutil.rmtree(left, ignore_errors=True)  # another process removes it too
    return Path(tempfile.mkdtemp(prefix=NAME.format(pid=os.getpid()), dir=home))
