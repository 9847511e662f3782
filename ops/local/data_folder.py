"""The data folder: closed to other users, locked by the process that runs servers on it, and its files."""

import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scorebeat.core.data_folder import LOCK_FILE, STATE_FILE, StackUrls
from scorebeat.core.errors import UsageError
from scorebeat.ops.local.privileges import Identity

SERVERS_LOCK_FILE = "servers.lock"
"""Inherited by the servers: it stays held until the last of them is gone, even if we were killed."""
LOCK_PATIENCE = 0.5
"""Seconds. A process that only checks the lock holds it for an instant."""
LEFTOVERS_PATIENCE = 60.0
"""Seconds that servers of a killed stack have for their shutdown, begun when it died."""


@dataclass(frozen=True)
class DataFolder:
    """A data folder while we hold its lock."""

    path: Path
    servers_lock: int
    """File descriptor for the servers to inherit."""

    @property
    def password(self) -> str:
        """The database password, made at first use."""
        file = self.path / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32) + "\n")
        return file.read_text("ascii").strip()

    def publish(self, urls: StackUrls) -> None:
        """Let other commands of this user find the running servers."""
        write_private(self.path / STATE_FILE, json.dumps({"pid": os.getpid(), **asdict(urls)}) + "\n")

    def withdraw(self) -> None:
        (self.path / STATE_FILE).unlink(missing_ok=True)

    def give_to(self, owner: Identity) -> None:
        """Make the owner of the servers the owner of the folder and of all in it; only root can."""
        if os.geteuid() != 0 or self.path.stat().st_uid == owner.uid:
            return
        for folder, subfolders, files in os.walk(self.path, topdown=False):
            for name in subfolders + files:
                os.chown(Path(folder) / name, owner.uid, owner.gid, follow_symlinks=False)
        os.chown(self.path, owner.uid, owner.gid)  # last: an interrupted change is done again


@contextmanager
def locked(data: Path) -> Iterator[DataFolder]:
    """The data folder, made if necessary, closed to other users, locked while we run servers on it.

    Raises UsageError if another process runs servers there (its id is in the message), or if the folder is
    not ours or holds other things.
    """
    with usable(data):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = data.resolve()
        owner = path.stat().st_uid
        if os.geteuid() not in (0, owner):
            raise UsageError(
                f"{path} belongs to user {owner}, we are user {os.geteuid()}: set SCOREBEAT_DATA to a folder of your "
                "own"
            )
        if not (path / LOCK_FILE).exists() and any(path.iterdir()):
            raise UsageError(
                f"{path} holds other things and is not a Scorebeat data folder; nothing in it was changed. "
                "Set SCOREBEAT_DATA to a new or empty folder"
            )
        path.chmod(0o700)
        if stat.S_IMODE(path.stat().st_mode) != 0o700:
            raise UsageError(
                f"{path}: this file system cannot close a folder to other users; set SCOREBEAT_DATA to a "
                "folder on another one"
            )

    with _held(path / LOCK_FILE, LOCK_PATIENCE, _taken) as lock:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        with _held(path / SERVERS_LOCK_FILE, LEFTOVERS_PATIENCE, _left_over) as servers_lock:
            folder = DataFolder(path, servers_lock)
            folder.withdraw()
            try:
                yield folder
            finally:
                folder.withdraw()


def write_private(file: Path, text: str) -> None:
    """Write a file of mode 0600 at once: a reader sees the old text or the new."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def remove_leftovers(folder: DataFolder, pattern: str) -> None:
    for leftover in folder.path.glob(pattern):
        shutil.rmtree(leftover)


@contextmanager
def usable(data: Path) -> Iterator[None]:
    """Turn an OSError in the data folder into a UsageError with advice."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{data}: cannot be the folder of the embedded servers ({error.strerror}); set SCOREBEAT_DATA "
            "to a folder that you may write"
        ) from None


@contextmanager
def _held(file: Path, patience: float, refusal: Callable[[Path], str]) -> Iterator[int]:
    with usable(file.parent):
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(refusal(file)) from None
            time.sleep(0.02)
        yield lock
    finally:
        os.close(lock)


def _taken(file: Path) -> str:
    pid = file.read_text("ascii").strip() or "(starting)"
    return (
        f"{file.parent} is in use: process {pid} runs the embedded servers there. Stop it first, or set "
        "SCOREBEAT_DATA to another folder"
    )


def _left_over(file: Path) -> str:
    return (
        f"{file.parent}: servers of a stack that was killed are still shutting down after "
        f"{LEFTOVERS_PATIENCE:g} s; try again when they are gone"
    )
