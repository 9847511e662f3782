"""Local copies of model versions, one folder a digest: verified at each use, and fetched again if they are damaged."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import digest as digest_of

HOME = Path("~/.cache/scorebeat")
"""The default folder of copies."""


def local_copy(cache: Path, digest: str, fetch: Callable[[Path], object]) -> Path:
    """The folder with the files of this digest; `fetch` fills an empty folder if there is no good copy.

    Processes that need the same digest take turns, so one fetches for all. A process deletes what one that died
    left behind. Raises ModelError if the fetched files have another digest, StoreError if the cache cannot be
    written.
    """
    home = _home(cache)
    copy, draft = home / digest, home / f".fetching-{digest}"
    with _locked(home, digest):
        with suppress(OSError, ModelError):  # a copy that cannot be read is fetched again
            if copy.is_dir() and digest_of(copy) == digest:
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
    """Delete the copy, which is not needed any more."""
    home = _home(cache)
    with _locked(home, digest):
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
def _locked(home: Path, digest: str) -> Iterator[None]:
    """One process at a time has the lock; the kernel releases it if the process dies."""
    with (home / f".lock-{digest}").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
