"""Local copies of model versions, one folder a digest: verified each time, fetched again when they are not good."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import digest as digest_of

HOME = Path("~/.cache/scorebeat")
"""Where copies lie unless told."""


def local_copy(cache: Path, digest: str, fetch: Callable[[Path], None]) -> Path:
    """The folder with the files of this digest; `fetch` fills an empty folder where there is no good copy.

    Processes that want the same digest take turns, so one fetches for all. What a process that died left
    behind is cleared away by the next. Raises ModelError when what was fetched has another digest,
    StoreError when the cache cannot be written.
    """
    home = _home(cache)
    copy, draft = home / digest, home / f".fetching-{digest}"
    with _alone(home, digest):
        if _found(copy) == digest:
            return copy
        _clear(draft)
        draft.mkdir(mode=0o700)
        try:
            fetch(draft)
            found = digest_of(draft)
            if found != digest:
                raise ModelError(f"expected digest {digest[:12]}, found {found[:12]}")
            _clear(copy)
            draft.rename(copy)
        finally:
            _clear(draft)
    return copy


def forget(cache: Path, digest: str) -> None:
    """The copy is not wanted any more."""
    home = _home(cache)
    with _alone(home, digest):
        _clear(home / digest)


def _home(cache: Path) -> Path:
    try:
        home = cache.expanduser()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:  # a user without a home folder is a RuntimeError
        raise StoreError(
            f"the folder for local copies of models, {cache}, cannot be made ({error}): set SCOREBEAT_CACHE to one "
            "that can be written"
        ) from error
    return home


@contextmanager
def _alone(home: Path, digest: str) -> Iterator[None]:
    """One process at a time; the kernel lets go of the lock when its holder dies."""
    with (home / f".lock-{digest}").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _found(copy: Path) -> str | None:
    try:
        return digest_of(copy) if copy.is_dir() else None
    except (OSError, ModelError):
        return None


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
