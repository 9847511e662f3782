"""A store behind any fsspec URL: `<name>/<version>-<digest>/model.toml` beside the model's files.

Object stores cannot rename, and most cannot refuse to overwrite, so no file decides anything. The ledger assigns a
version, by its primary key, after all files are uploaded; `model.toml` is the last of them. Two processes that add
different files at the same time may try the same version: the digest in the folder's name separates their files, the
ledger accepts one of them, and the other takes the next version. A crash leaves files that were never recorded; the
same call again writes them completely.

A folder store that was copied to a URL without changes, `<name>/<version>/`, is read as well.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from scorebeat.core.errors import ModelError, ScorebeatError, ServiceDown, StoreError, one_line
from scorebeat.core.events import emit
from scorebeat.core.urls import redact
from scorebeat.models.artifact import MANIFEST, Artifact
from scorebeat.models.artifact import digest as digest_of
from scorebeat.models.store.cache import forget, local_copy


class RemoteStore:
    """One URL, and the folder with local copies of what was read from it."""

    def __init__(self, url: str, cache: Path) -> None:
        """Raises StoreError if no installed package reads such a URL, ServiceDown if it does not respond."""
        self.url, self._cache = redact(url), cache
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise StoreError(
                f"SCOREBEAT_ARTIFACTS is {self.url}, and the package that reads such a URL is not installed here: "
                f"{error}. Install it with pip on every machine that adds, scores or checks models"
            ) from error
        except ValueError as error:
            raise StoreError(f"SCOREBEAT_ARTIFACTS is {self.url}, which nothing reads: {error}") from error
        except Exception as error:  # some file systems connect here
            raise self._unavailable(error, "nothing was done") from error
        self._root = str(root).rstrip("/")

    def keep(self, fresh: Artifact, recorded: Mapping[int, str]) -> Artifact:
        """Upload the draft as the version after the newest recorded one, unless that one has the same files.

        If a recorded version had these files and the store lacks them, they are restored instead.
        """
        newest = max(recorded, default=0)
        same_files = sorted((number for number in recorded if recorded[number] == fresh.digest), reverse=True)
        broken = [number for number in same_files if not self._holds(fresh.name, number, fresh.digest)][:1]
        same = newest in same_files
        (version,) = broken or [newest if same else newest + 1]
        if broken or not same:
            with self._reporting_outage(f"{fresh.name}/{version} was not added"):
                self._upload(fresh.folder, self._home(fresh.name, version, fresh.digest))
        folder = local_copy(self._cache, fresh.digest, partial(shutil.copytree, fresh.folder, dirs_exist_ok=True))
        return replace(fresh, version=version, folder=folder, is_new=not (broken or same), put_back=bool(broken))

    def find(self, name: str, version: int, recorded: str) -> Path:
        """The folder of the verified local copy, fetched if necessary.

        Raises ModelError if the store lacks the version or has other files than were recorded, ServiceDown
        if it does not respond.
        """
        try:
            return local_copy(self._cache, recorded, partial(self._fetch, name, version, recorded))
        except ModelError as error:
            raise ModelError(
                f"model {name}/{version} is unavailable from {self.url}: {error}. It was not loaded; restore its "
                "files, set SCOREBEAT_ARTIFACTS to the store that has them, or add the same file again"
            ) from error

    def verify(self, name: str, version: int, recorded: str) -> None:
        """Read the version's files in the store. Raises ModelError as `find` does, ServiceDown."""
        with tempfile.TemporaryDirectory(prefix="scorebeat-") as into:
            try:
                self._fetch(name, version, recorded, Path(into))
                found = digest_of(Path(into))
                if found != recorded:
                    raise ModelError(f"expected digest {recorded[:12]}, found {found[:12]}")
            except ModelError as error:
                raise ModelError(
                    f"model {name}/{version} is not in {self.url} as it was added: {error}. Restore its files, or add "
                    "the same file again, which puts them back"
                ) from error

    def copy(self, name: str, version: int, recorded: str, new_name: str) -> None:
        """Upload the version's files under another name as well."""
        folder = self.find(name, version, recorded)
        with self._reporting_outage(f"{new_name}/{version} was not copied"):
            self._upload(folder, self._home(new_name, version, recorded))

    def remove(self, name: str, version: int, recorded: str) -> None:
        """Delete the version's files, and the local copy; safe to repeat."""
        with self._reporting_outage(f"the files of {name}/{version} were not deleted"):
            for home in self._homes(name, version, recorded):
                if self._sizes(home):
                    self._files.rm(home, recursive=True)
                    break
        forget(self._cache, recorded)

    def _holds(self, name: str, version: int, recorded: str) -> bool:
        try:
            self.verify(name, version, recorded)
        except ModelError:
            return False
        return True

    def _upload(self, draft: Path, home: str) -> None:
        names = {path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file()}
        for surplus in self._sizes(home).keys() - names:
            self._files.rm_file(f"{home}/{surplus}")
        for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
            target = f"{home}/{name}"
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(draft / name), target)

    def _fetch(self, name: str, version: int, recorded: str, into: Path) -> None:
        with self._reporting_outage(f"{name}/{version} was not loaded"):
            for home in self._homes(name, version, recorded):
                found = self._sizes(home)
                if MANIFEST in found:
                    for file in found:
                        target = into / _inside(file)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        self._files.get_file(f"{home}/{file}", str(target))
                    emit("model.fetched", model=f"{name}/{version}", store=self.url, bytes=sum(found.values()))
                    return
        raise ModelError("it is recorded, but is not there, or not whole")

    def _sizes(self, home: str) -> dict[str, int]:
        """Files below `home` with their bytes, as the store has them now; empty if there is no such folder."""
        self._files.invalidate_cache()
        found: dict[str, Any] = self._files.find(home, detail=True)
        below = {path[len(home) + 1 :]: info for path, info in found.items() if path.startswith(f"{home}/")}
        return {name: int(info["size"] or 0) for name, info in below.items() if info["type"] == "file" and name}

    def _home(self, name: str, version: int, digest: str) -> str:
        return f"{self._root}/{name}/{version}-{digest[:12]}"

    def _homes(self, name: str, version: int, digest: str) -> tuple[str, str]:
        return self._home(name, version, digest), f"{self._root}/{name}/{version}"

    @contextmanager
    def _reporting_outage(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except ScorebeatError:
            raise
        except Exception as error:  # each file system has its own errors
            raise self._unavailable(error, outcome) from error

    def _unavailable(self, error: Exception, outcome: str) -> ServiceDown:
        reason = redact(one_line(error))
        return ServiceDown(
            f"the model store {self.url} cannot be used ({type(error).__name__}: {reason}): {outcome}. Check "
            "SCOREBEAT_ARTIFACTS, and that this machine may reach the store"
        )


def _inside(file: str) -> PurePosixPath:
    """The name of a file in the store, as a path. Raises ModelError if it lies outside its folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"its file {file!r} lies outside its folder")
    return path
