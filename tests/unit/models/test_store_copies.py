"""A worker's local copies of versions: fetched once, verified, fetched again when they are not good."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scorebeat.core.errors import ServiceDown
from scorebeat.models.artifact import MANIFEST, digest
from scorebeat.models.store import store
from scorebeat.models.store.cache import local_copy
from tests.support.fixtures import wait_for
from tests.support.store_fixtures import Objects, cache, file, files, objects, root, url

pytestmark = pytest.mark.wide

__all__ = ["cache", "file", "files", "objects", "root", "url"]

HERE = Path(__file__).parents[3]
LOCKS = Path("/proc/locks")
"""Locks of files, and who waits for one, as Linux lists them."""


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: next(f.glob("*.skops")).write_bytes(b"half"),
        lambda f: next(f.glob("*.skops")).unlink(),
        lambda f: (f / "surplus.py").write_text(""),
        lambda f: (next(f.glob("*.skops")).unlink(), (f / "model.skops").symlink_to(f / MANIFEST)),
    ],
    ids=["half written", "missing", "surplus", "a link"],
)
def test_a_copy_that_is_not_good_is_fetched_again(
    url: str, file: Path, cache: Path, harm: Callable[[Path], None]
) -> None:
    added = store.add(url, file, "iris", cache=cache)

    harm(cache / added.digest)

    opened = store.open_artifact(url, "iris", 1, added.digest, cache=cache)
    assert {p.name for p in opened.folder.iterdir()} == {MANIFEST, "model.skops"}
    assert opened.path.read_bytes() == file.read_bytes()


def test_a_good_copy_is_used_while_the_store_is_away(
    objects: type[Objects], file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add("objects://m/x", file, "iris", cache=cache)

    monkeypatch.setattr(objects, "fails_at", "iris")

    assert store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=cache).path.exists()
    with pytest.raises(ServiceDown, match="connection reset by peer"):  # a worker tries such a batch again
        store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=cache / "another")


def test_the_files_of_a_fetch_that_died_are_cleared_away(url: str, file: Path, cache: Path, tmp_path: Path) -> None:
    added = store.add(url, file, "iris", cache=tmp_path / "adder")
    left = cache / f".fetching-{added.digest}"
    left.mkdir(parents=True)
    (left / "surplus").write_text("half")

    opened = store.open_artifact(url, "iris", 1, added.digest, cache=cache)

    assert {p.name for p in opened.folder.iterdir()} == {MANIFEST, "model.skops"}
    assert not left.exists()


OPEN = """
import sys
from pathlib import Path
from scorebeat.models.store import cache, remote as remote_store, store
fetch = remote_store.RemoteStore._fetch
def counted(self, *rest):
    print("fetched")
    fetch(self, *rest)
remote_store.RemoteStore._fetch = counted
url, digest, copies = sys.argv[1:]
for _ in range(5):
    opened = store.open_artifact(url, "iris", 1, digest, cache=Path(copies))
    assert opened.path.stat().st_size > 0
"""


def test_processes_that_start_together_fetch_once_and_all_find_it_good(
    url: str, file: Path, cache: Path, tmp_path: Path
) -> None:
    added = store.add(url, file, "iris", cache=tmp_path / "adder")
    command = [sys.executable, "-c", OPEN, url, added.digest, str(cache)]
    running = [subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]

    outputs = [process.communicate(timeout=60) for process in running]

    assert [process.returncode for process in running] == [0] * 4, outputs
    assert b"".join(out for out, _ in outputs).split() == [b"fetched"]


def test_a_second_reader_of_a_copy_that_is_being_fetched_waits_for_it(cache: Path, tmp_path: Path) -> None:
    begun, go, fetched = threading.Event(), threading.Event(), []
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model").write_text("whole")
    wanted = digest(tmp_path / "files")

    def fetch(into: Path) -> None:
        fetched.append(into)
        (into / "model").write_text("half")
        begun.set()
        assert go.wait(10)
        (into / "model").write_text("whole")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(local_copy, cache, wanted, fetch)
        assert begun.wait(10)
        second = pool.submit(local_copy, cache, wanted, fetch)
        wait_for(lambda: len(fetched) > 1 or f"-> FLOCK  ADVISORY  WRITE {os.getpid()} " in LOCKS.read_text())
        go.set()

    assert first.result() == second.result() == cache / wanted
    assert len(fetched) == 1


def test_a_folder_store_that_was_copied_to_a_url_is_read(url: str, root: Path, file: Path, cache: Path) -> None:
    added = store.add(root, file, "iris")

    opened = store.open_artifact(url, "iris", 1, added.digest, cache=cache)

    assert opened.folder == cache / added.digest
    assert opened.path.read_bytes() == file.read_bytes()
