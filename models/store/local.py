"""A store that is a folder: `<name>/<version>/model.toml` beside the model's files, made by one atomic rename."""

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact, digest
from scorebeat.models.copying import close

LEFT_AFTER = timedelta(days=1)
"""After this time a draft has been abandoned."""
_VERSION = re.compile(r"[1-9][0-9]*")


def new_draft(store: Path) -> Path:
    """An empty folder in the store, which is no version yet; abandoned ones are deleted."""
    draft = store / f".adding-{uuid.uuid4().hex}"
    try:
        # processes that died while they added or deleted a version left these
        for left in (*store.glob(".adding-*"), *store.glob(".dropped-*")):
            with suppress(FileNotFoundError):  # another process deletes it
                if time.time() - left.stat().st_mtime > LEFT_AFTER.total_seconds():
                    shutil.rmtree(left, ignore_errors=True)
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise StoreError(f"the store {store} cannot be written: {error.strerror}") from error
    return draft


def versions(store: Path, name: str) -> list[int]:
    """The versions of a model in the store, in ascending order."""
    home = store / name
    found = home.iterdir() if home.is_dir() else ()
    return sorted(int(folder.name) for folder in found if _VERSION.fullmatch(folder.name) and folder.is_dir())


def keep(store: Path, fresh: Artifact, recorded: Mapping[int, str]) -> Artifact:
    """Make the draft the next version, unless the newest one has the same files and no other recorded digest.

    If a recorded version had these files and its folder is gone, its files are restored instead. Raises StoreError.
    """
    home = store / fresh.name
    with _usable(store):
        existing = versions(store, fresh.name)
        gone = [number for number, known in recorded.items() if known == fresh.digest and number not in existing]
        for lost in sorted(gone, reverse=True):
            if _rename_into_store(home, fresh, lost):
                return replace(fresh, version=lost, folder=home / str(lost), put_back=True)
        for newest in existing[-1:]:
            same = _digest(home / str(newest), f"{fresh.name}/{newest}") == fresh.digest
            if same and recorded.get(newest, fresh.digest) == fresh.digest:
                return replace(fresh, version=newest, folder=home / str(newest))
        version = max([0, *recorded, *existing]) + 1
        while not _rename_into_store(home, fresh, version):
            version += 1  # another process took that number in between
        return replace(fresh, version=version, folder=home / str(version), is_new=True)


def find(store: Path, name: str, version: int, recorded: str) -> Path:
    """The version's folder, verified. Raises ModelError if it is missing, not readable for us, or not as recorded."""
    folder = store / name / str(version)
    with _readable(folder, f"{name}/{version}"):
        exists = folder.is_dir()
    if not exists:
        raise ModelError(
            f"model {name}/{version} is recorded, but {folder} is not there: restore the folder, set "
            "SCOREBEAT_ARTIFACTS to the store that has it, or add the same file again, which puts it back"
        )
    found = _digest(folder, f"{name}/{version}")
    if found != recorded:
        raise ModelError(
            f"model {name}/{version} was altered or damaged after it was added: expected digest "
            f"{recorded[:12]}, found {found[:12]} in {folder}. It was not loaded; restore the folder, or delete "
            "it and add the same file again, which puts it back"
        )
    return folder


def copy(store: Path, name: str, version: int, recorded: str, new_name: str) -> None:
    """Copy the version's files to another name. Raises ModelError like `find`, StoreError if other files are there."""
    source, draft = find(store, name, version, recorded), new_draft(store)
    try:
        with _usable(store):
            shutil.copytree(source, draft, dirs_exist_ok=True)
            fresh = Artifact.read(draft, new_name, version, recorded)
            if not _rename_into_store(store / new_name, fresh, version):
                find(store, new_name, version, recorded)
    except ModelError as error:
        raise StoreError(f"{store / new_name / str(version)} has other files: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove(store: Path, name: str, version: int) -> None:
    """Delete the version's files: readers see all of them or none. Safe to repeat."""
    gone = store / f".dropped-{uuid.uuid4().hex}"
    try:
        (store / name / str(version)).rename(gone)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{store / name / str(version)} cannot be deleted: {error.strerror}") from error
    shutil.rmtree(gone, ignore_errors=True)


def _rename_into_store(home: Path, fresh: Artifact, version: int) -> bool:
    """Rename the draft to this version, durably even in a power cut; returns False if the version exists."""
    close(fresh.folder, home.parent)
    for path in (*fresh.folder.rglob("*"), fresh.folder):
        _sync(path)
    home.mkdir(exist_ok=True, mode=stat.S_IMODE(fresh.folder.stat().st_mode))
    target = home / str(version)
    try:
        fresh.folder.rename(target)  # atomic; fails if the target is a folder that is not empty
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise StoreError(f"{target} cannot be made: {error.strerror}") from error
    _sync(home)
    _sync(home.parent)
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _usable(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the store {store} cannot be used: {error.filename or store}: {error.strerror}") from error


def _digest(folder: Path, model: str) -> str:
    with _readable(folder, model):
        return digest(folder)


@contextmanager
def _readable(folder: Path, model: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"model {model}: {error.filename or folder} cannot be read: {error.strerror}. It was not loaded; let the "
            "user of this process read the store, or set SCOREBEAT_ARTIFACTS to one that it may read"
        ) from error
