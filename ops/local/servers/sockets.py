"""The folder of the servers' sockets: mode 0700, and short enough for the kernel."""

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from scorebeat.ops.local.data_folder import DataFolder, write_private
from scorebeat.ops.local.privileges import Identity, own

LONGEST = 100
"""Bytes of a socket's path; the kernel accepts 107 on Linux and 103 elsewhere."""
PLAIN = re.compile(r"[A-Za-z0-9/._@-]+")
"""Other characters mean something in a URL or in libpq's list of hosts."""
LONGEST_NAME = len("/.s.PGSQL.5432")
SHORT = "/tmp"  # noqa: S108 - only mkdtemp writes there, a folder of mode 0700 whose name cannot be guessed
RECORD = "sockets"
"""File in the data folder that names a socket folder outside it."""


def open_sockets(folder: DataFolder, owner: Identity) -> Path:
    """The empty socket folder: `run` in the data folder, or a private one if that path cannot be used."""
    sockets = folder.path / "run"
    if usable(sockets):
        shutil.rmtree(sockets, ignore_errors=True)  # we hold the servers' lock: nobody listens there
        sockets.mkdir(mode=0o700)
    elif (recorded := _recorded(folder, owner)) is not None:
        sockets = recorded
    else:
        preferred = tempfile.gettempdir()
        parent = preferred if usable(Path(preferred) / "scorebeat-12345678") else SHORT
        sockets = Path(tempfile.mkdtemp(prefix="scorebeat-", dir=parent))
        write_private(folder.path / RECORD, f"{sockets}\n")
    sockets.chmod(0o700)
    own(sockets, owner)
    return sockets


def close_sockets(folder: DataFolder, sockets: Path) -> None:
    """Leave no socket folder behind."""
    shutil.rmtree(sockets, ignore_errors=True)
    (folder.path / RECORD).unlink(missing_ok=True)


def usable(sockets: Path) -> bool:
    return len(os.fsencode(sockets)) + LONGEST_NAME <= LONGEST and PLAIN.fullmatch(str(sockets)) is not None


def _recorded(folder: DataFolder, owner: Identity) -> Path | None:
    """The private folder of a stack that was killed, if nobody has changed it."""
    try:
        sockets = Path((folder.path / RECORD).read_text("utf-8").strip())
        found = sockets.lstat()
    except OSError:
        return None
    ours = found.st_uid in (os.geteuid(), owner.uid) and stat.S_IMODE(found.st_mode) == 0o700
    if not (stat.S_ISDIR(found.st_mode) and ours and usable(sockets)):
        return None
    for socket in sockets.iterdir():
        socket.unlink()
    return sockets
