"""A store behind a URL returns what was added, whole and verified, whatever its files or the copies went through."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scorebeat.core.errors import ModelError, ServiceDown, StoreError
from scorebeat.core.settings import Settings
from scorebeat.models.artifact import MANIFEST
from scorebeat.models.formats import registry
from scorebeat.models.store import store
from tests.support.store_fixtures import Objects, anywhere, cache, file, files, objects, root, url

__all__ = ["anywhere", "cache", "file", "files", "objects", "root", "url"]


def test_an_added_version_is_opened_elsewhere_by_its_digest(anywhere: str, file: Path, tmp_path: Path) -> None:
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


def test_concurrent_adders_of_one_number_do_not_touch_each_others_files(
    anywhere: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    added = [store.add(anywhere, file, "iris", cache=tmp_path / "adder") for file in files]

    assert [a.version for a in added] == [1, 1]  # the ledger lets one of them through
    for artifact, original in zip(added, files, strict=True):
        opened = store.open_artifact(anywhere, "iris", 1, artifact.digest, cache=tmp_path / "worker")
        assert opened.path.read_bytes() == original.read_bytes()


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

    with pytest.raises(ModelError, match=r"iris/1 is unavailable from objects://m/x: it is recorded, but is not there"):
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
        with pytest.raises(ModelError, match=r"iris/1 is unavailable from file://.*It was not loaded; restore"):
            store.open_artifact(url, "iris", 1, added.digest, cache=tmp_path / "worker")
    assert [p.name for p in (tmp_path / "worker").iterdir() if not p.name.startswith(".lock")] == []


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
def test_the_error_for_an_unreadable_url_names_what_is_missing_and_no_password(
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
