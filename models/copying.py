"""Copies the files that a person adds: regular files only, closed to other users from the first byte on."""

import os
import shutil
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from scorebeat.core.errors import StoreError

Ignore = Callable[[str, list[str]], Collection[str]]


def copy_regular(source: Path, target: Path) -> None:
    """Copy one file. Raises StoreError for a link, a pipe or a device."""
    found = source.lstat().st_mode
    if stat.S_ISLNK(found):
        raise StoreError(_refusal(source, f"a link to {source.readlink()}"))
    if not stat.S_ISREG(found):
        raise StoreError(_refusal(source, "no regular file"))
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # it may have been replaced since
    with (
        os.fdopen(descriptor, "rb") as read,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written,
    ):
        if not stat.S_ISREG(os.fstat(read.fileno()).st_mode):
            raise StoreError(_refusal(source, "no regular file"))
        shutil.copyfileobj(read, written, 1024**2)


def copy_folder(source: Path, target: Path, ignore: Ignore | None = None) -> None:
    """Copy a folder with everything in it. Raises StoreError for a link, a pipe or a device anywhere in it."""
    inside = sorted(source.iterdir())
    ignored = ignore(str(source), [path.name for path in inside]) if ignore else ()
    target.mkdir(mode=0o700, parents=True)
    for path in inside:
        if path.name in ignored:
            continue
        if path.is_dir() and not path.is_symlink():
            copy_folder(path, target / path.name, ignore)
        else:
            copy_regular(path, target / path.name)


def close(folder: Path, store: Path) -> None:
    """Remove the permissions of other users on the files in `folder`; a library may have written some of these.

    If the store's folder has the setgid bit, which marks a folder shared with a group, that group may read them.
    """
    shared = store.exists() and bool(store.stat().st_mode & stat.S_ISGID)
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            path.chmod(0o2750 if shared else 0o700)
        else:
            path.chmod(0o640 if shared else 0o600)


def _refusal(path: Path, what: str) -> str:
    return f"{path} is {what}: only regular files are added. Name the file itself, or put a copy there (cp -L)"
