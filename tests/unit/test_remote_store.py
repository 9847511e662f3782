"""A store behind a URL gives back what was added, whole and verified, whatever its files or the copies went through."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import pathname2url

import fsspec
import pytest
import skops.io
from fsspec.implementations.memory import MemoryFileSystem
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from core.errors import ModelError, ServiceDown, StoreError
from core.settings import Settings
from models import registry, store
from models.artifact import MANIFEST

X, Y = load_iris(return_X_y=True)
HERE = Path(__file__).parents[2]


def dump(path: Path, c: float = 1.0) -> Path:
    skops.io.dump(LogisticRegression(C=c, max_iter=1000).fit(X, Y), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models."""
    folder = tmp_path_factory.mktemp("files")
    return dump(folder / "one.skops"), dump(folder / "other.skops", 0.1)


@pytest.fixture
def file(files: tuple[Path, Path]) -> Path:
    return files[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def url(root: Path) -> str:
    """A store that other processes see too."""
    return f"file://{pathname2url(str(root))}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Objects(MemoryFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """As object stores are: nothing can be renamed or linked, and each write is recorded."""

    protocol = "objects"
    store: dict[str, Any] = {}  # noqa: RUF012 -- the base class keeps its files so
    pseudo_dirs = [""]  # noqa: RUF012 -- as above
    written: list[str] = []  # noqa: RUF012 -- read by the tests
    fails_at: str | None = None

    def mv(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("an object cannot be renamed")

    def put_file(self, lpath: str, rpath: str, *rest: Any, **more: Any) -> None:
        if self.fails_at and self.fails_at in rpath:
            raise ConnectionError("connection reset by peer")
        self.written.append(rpath.rpartition("/")[2])
        super().put_file(lpath, rpath, *rest, **more)

    def get_file(self, rpath: str, lpath: Any, *rest: Any, **more: Any) -> None:
        if self.fails_at and self.fails_at in rpath:
            raise ConnectionError("connection reset by peer")
        super().get_file(rpath, lpath, *rest, **more)


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Objects]]:
    fsspec.register_implementation("objects", Objects, clobber=True)
    monkeypatch.setattr(Objects, "fails_at", None)
    yield Objects
    Objects.store.clear()
    Objects.written.clear()
    Objects.pseudo_dirs[:] = [""]


URLS = ["file", "memory", "objects"]


@pytest.fixture(params=URLS)
def anywhere(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    """A store of each kind, empty."""
    request.getfixturevalue("objects")
    return url if request.param == "file" else f"{request.param}://{tmp_path.name}/models"


def test_what_was_added_is_opened_elsewhere_by_its_digest(anywhere: str, file: Path, tmp_path: Path) -> None:
    added = store.add(anywhere, file, "iris", cache=tmp_path / "here")

    opened = store.open_artifact(anywhere, "iris", 1, added.digest, cache=tmp_path / "there")

    assert (added.version, added.is_new) == (1, True)
    assert opened.folder == tmp_path / "there" / added.digest
    assert opened.path.read_bytes() == file.read_bytes()
    assert registry.load(opened).outputs == added.signature.outputs


def test_the_same_files_are_the_same_version_and_others_the_next(
    anywhere: str, files: tuple[Path, Path], cache: Path
) -> None:
    one, other = files
    first = store.add(anywhere, one, "iris", cache=cache)
    recorded = {1: first.digest}

    again = store.add(anywhere, one, "iris", recorded=recorded, cache=cache)
    second = store.add(anywhere, other, "iris", recorded=recorded, cache=cache)
    dropped = store.add(anywhere, other, "iris", recorded={**recorded, 2: ""}, cache=cache)

    assert (again.version, again.is_new) == (1, False)
    assert (second.version, second.is_new) == (2, True)
    assert (dropped.version, dropped.is_new) == (3, True)
    assert store.open_artifact(anywhere, "iris", 1, first.digest, cache=cache).path.read_bytes() == one.read_bytes()


def test_two_who_try_the_same_number_at_the_same_time_do_not_touch_each_others_files(
    anywhere: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    added = [store.add(anywhere, file, "iris", cache=tmp_path / "adder") for file in files]

    assert [a.version for a in added] == [1, 1]  # the ledger lets one of them through
    for artifact, file in zip(added, files, strict=True):
        opened = store.open_artifact(anywhere, "iris", 1, artifact.digest, cache=tmp_path / "worker")
        assert opened.path.read_bytes() == file.read_bytes()


def test_an_upload_that_breaks_off_is_no_version_and_the_same_call_ends_it(
    objects: type[Objects], file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "fails_at", MANIFEST)
    with pytest.raises(ServiceDown, match=r"objects://m/x .*ConnectionError.*iris/1 was not added"):
        store.add("objects://m/x", file, "iris", cache=cache)
    left = [name for name in objects.store if "iris" in name]
    monkeypatch.setattr(objects, "fails_at", None)

    added = store.add("objects://m/x", file, "iris", cache=cache)

    assert [name.rpartition("/")[2] for name in left] == ["model.skops"]
    assert objects.written[-1] == MANIFEST
    assert store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=cache).version == 1


def test_adding_again_puts_back_what_the_store_lost(
    objects: type[Objects], file: Path, cache: Path, tmp_path: Path
) -> None:
    added = store.add("objects://m/x", file, "iris", cache=cache)
    objects.store.clear()

    with pytest.raises(ModelError, match=r"iris/1 cannot be had from objects://m/x: it is recorded, but is not there"):
        store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=tmp_path / "new")
    again = store.add("objects://m/x", file, "iris", recorded={1: added.digest}, cache=cache)

    assert (again.version, again.is_new) == (1, False)
    store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=tmp_path / "new")
    objects.written.clear()
    store.add("objects://m/x", file, "iris", recorded={1: added.digest}, cache=cache)
    assert objects.written == []


HARMS: dict[str, Callable[[Path], object]] = {
    "missing": lambda f: next(f.glob("*.skops")).unlink(),
    "no manifest": lambda f: (f / MANIFEST).unlink(),
    "altered, of the same size": lambda f: next(f.glob("*.skops")).write_bytes(
        next(f.glob("*.skops")).read_bytes()[:-1] + b"?"
    ),
    "surplus": lambda f: (f / "surplus.py").write_text(""),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("newest", [True, False], ids=["newest", "older"])
def test_adding_again_repairs_what_the_store_has_otherwise_than_recorded(
    url: str, root: Path, files: tuple[Path, Path], cache: Path, tmp_path: Path, harm: str, newest: bool
) -> None:
    added = store.add(url, files[0], "iris", cache=cache)
    recorded = {1: added.digest} | ({} if newest else {2: "x"})

    HARMS[harm](root / "iris" / f"1-{added.digest[:12]}")
    with pytest.raises(ModelError, match=r"iris/1 is not in file://.* add the same file again, which puts them back"):
        store.verify(url, "iris", 1, added.digest, cache=cache)  # the copy in the cache is good
    again = store.add(url, files[0], "iris", recorded=recorded, cache=cache)

    assert (again.version, again.is_new, again.put_back) == (1, False, True)
    opened = store.open_artifact(url, "iris", 1, added.digest, cache=tmp_path / "worker")
    assert opened.path.read_bytes() == files[0].read_bytes()
    store.verify(url, "iris", 1, added.digest, cache=cache)


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: next(f.glob("*.skops")).unlink(),
        lambda f: next(f.glob("*.skops")).write_bytes(b"cut"),
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text().replace("float64", "float32")),
        lambda f: (f / "surplus.py").write_text(""),
        lambda f: (f / MANIFEST).unlink(),
    ],
    ids=["missing", "cut off", "altered manifest", "surplus", "no manifest"],
)
def test_altered_files_in_the_store_are_refused_and_leave_no_copy(
    url: str, root: Path, file: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    added = store.add(url, file, "iris", cache=tmp_path / "adder")

    harm(root / "iris" / f"1-{added.digest[:12]}")

    for _ in range(2):
        with pytest.raises(ModelError, match=r"iris/1 cannot be had from file://.*It was not loaded; restore"):
            store.open_artifact(url, "iris", 1, added.digest, cache=tmp_path / "worker")
    assert [p.name for p in (tmp_path / "worker").iterdir() if not p.name.startswith(".lock")] == []


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


def test_what_a_fetch_that_died_left_behind_is_cleared_away(url: str, file: Path, cache: Path, tmp_path: Path) -> None:
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
from models import cache, remote_store, store
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

    told = [process.communicate(timeout=60) for process in running]

    assert [process.returncode for process in running] == [0] * 4, told
    assert b"".join(out for out, _ in told).split() == [b"fetched"]


def test_a_folder_store_that_was_copied_to_a_url_is_read(url: str, root: Path, file: Path, cache: Path) -> None:
    added = store.add(root, file, "iris")

    opened = store.open_artifact(url, "iris", 1, added.digest, cache=cache)

    assert opened.folder == cache / added.digest
    assert opened.path.read_bytes() == file.read_bytes()


def test_a_file_outside_the_versions_folder_is_refused(
    objects: type[Objects], file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add("objects://m/x", file, "iris", cache=tmp_path / "adder")
    home = next(name for name in objects.store if name.endswith(MANIFEST)).rpartition("/")[0]
    listed = {f"{home}/{name}": {"size": 1, "type": "file"} for name in (MANIFEST, "../../../../escaped")}
    monkeypatch.setattr(objects, "find", lambda *_, **__: listed)

    with pytest.raises(ModelError, match="lies outside its folder"):
        store.open_artifact("objects://m/x", "iris", 1, added.digest, cache=cache)
    assert not list(tmp_path.rglob("escaped"))


def test_removed_files_are_gone_from_the_store_and_from_the_copies(
    anywhere: str, files: tuple[Path, Path], cache: Path
) -> None:
    one, other = (store.add(anywhere, f, "iris", recorded={n: "x"}, cache=cache) for n, f in enumerate(files))

    for _ in range(2):
        store.remove(anywhere, "iris", one.version, one.digest, cache=cache)

    with pytest.raises(ModelError, match="is not there"):
        store.open_artifact(anywhere, "iris", one.version, one.digest, cache=cache)
    assert store.open_artifact(anywhere, "iris", other.version, other.digest, cache=cache).path.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("s3://bucket/models", "s3fs"),
        ("gs://bucket/models", "gcsfs"),
        ("conjure://bucket/models", "conjure"),
        ("ftp://ann:secret@host.invalid/models", "ftp://ann:"),
    ],
)
def test_a_url_that_cannot_be_read_says_what_is_missing_and_no_password(
    file: Path, cache: Path, wrong: str, words: str
) -> None:
    with pytest.raises((StoreError, ServiceDown)) as refused:
        store.add(wrong, file, "iris", cache=cache)

    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_cache_that_cannot_be_written_is_named(url: str, file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(StoreError, match=r"taken/cache, cannot be made .*SCOREBEAT_CACHE"):
        store.add(url, file, "iris", cache=tmp_path / "taken" / "cache")


@pytest.mark.parametrize("value", ["s3://bucket/models", "file:///srv/models", "memory://x"])
def test_the_setting_takes_a_url_as_it_is_and_anything_else_for_a_folder(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_ARTIFACTS", value)
    assert Settings(_env_file=None).artifacts == value

    monkeypatch.setenv("SCOREBEAT_ARTIFACTS", "~/models")
    assert Settings(_env_file=None).artifacts == Path.home() / "models"
