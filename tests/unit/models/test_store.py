"""The store returns exactly what was added, or reports what is wrong; a version never changes."""

import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import MANIFEST, digest
from scorebeat.models.contract import AddOptions
from scorebeat.models.store import local, store
from tests.contract.onnx_files import matmul
from tests.support.iris_models import file, other, root

pytestmark = pytest.mark.wide(quick=5)

__all__ = ["file", "other", "root"]


def test_an_added_version_is_opened_with_its_digest_alone(root: Path, file: Path) -> None:
    added = store.add(root, file, "iris")

    opened = store.open_artifact(root, "iris", added.version, added.digest)

    assert (added.version, added.is_new, added.folder) == (1, True, root / "iris" / "1")
    assert opened.signature == added.signature
    assert opened.path.read_bytes() == file.read_bytes()
    assert {p.name for p in root.iterdir()} == {"iris"}


def test_the_same_file_again_is_the_same_version(root: Path, file: Path, other: Path) -> None:
    first, again, changed, back = (store.add(root, f, "iris") for f in (file, file, other, file))

    assert (again.version, again.is_new, again.digest) == (first.version, False, first.digest)
    assert (changed.version, back.version) == (2, 3)
    assert local.versions(root, "iris") == [1, 2, 3]


def test_a_new_version_is_above_what_the_database_knows(root: Path, file: Path) -> None:
    assert store.add(root, file, "iris", recorded={7: "other"}).version == 8


def test_adds_at_the_same_time_never_share_a_version(root: Path, file: Path, other: Path) -> None:
    script = "import sys; from pathlib import Path; from scorebeat.models.store import store;"
    script += "a = [Path(x) for x in sys.argv[1:]];"
    script += "print(*(store.add(a[0], f, 'iris').version for f in a[1:] * 4))"
    here = Path(__file__).parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", script, root, file, other], stdout=subprocess.PIPE, cwd=here)
        for _ in range(2)
    ]

    out = [p.communicate()[0].decode().split() for p in running]

    assert [p.returncode for p in running] == [0, 0]
    found = local.versions(root, "iris")
    assert found == list(range(1, len(found) + 1))
    assert {int(v) for numbers in out for v in numbers} == set(found)
    for version in found:
        folder = root / "iris" / str(version)
        assert (folder / "model.skops").read_bytes() in (file.read_bytes(), other.read_bytes())


def test_a_version_number_that_is_taken_is_never_overwritten(
    root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = root / "iris" / "1"
    taken.mkdir(parents=True)
    (taken / "theirs").write_text("x")
    monkeypatch.setattr(local, "versions", lambda *_: [])  # as if it came after the look

    assert store.add(root, file, "iris").version == 2
    assert [p.name for p in taken.iterdir()] == ["theirs"]


@pytest.mark.quick
@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "model.skops").unlink(),
        lambda f: (f / "model.skops").write_bytes((f / "model.skops").read_bytes()[:-1]),
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text().replace("float64", "float32")),
        lambda f: (f / "surplus.py").write_text(""),
        lambda f: (f / "model.skops").rename(f / "model2.skops"),
    ],
    ids=["missing", "cut off", "altered manifest", "surplus", "renamed"],
)
def test_altered_files_are_not_opened(root: Path, file: Path, harm: Callable[[Path], None]) -> None:
    added = store.add(root, file, "iris")

    harm(added.folder)

    with pytest.raises(ModelError, match=rf"iris/1 was altered .*expected digest {added.digest[:12]}, found "):
        store.open_artifact(root, "iris", 1, added.digest)


def test_an_altered_version_is_restored_as_the_error_describes(root: Path, file: Path, other: Path) -> None:
    first, second = (store.add(root, f, "iris") for f in (file, other))
    recorded = {1: first.digest, 2: second.digest}
    first.path.write_bytes(b"altered")
    with pytest.raises(ModelError, match="or delete it and add the same file again, which puts it back"):
        store.open_artifact(root, "iris", 1, first.digest)

    shutil.rmtree(first.folder)
    again = store.add(root, file, "iris", recorded=recorded)

    assert (again.version, again.is_new, again.put_back) == (1, False, True)
    assert store.open_artifact(root, "iris", 1, first.digest).path.read_bytes() == file.read_bytes()
    assert store.add(root, file, "iris", recorded=recorded | {1: ""}).version == 3  # it was dropped


def test_the_files_of_a_process_that_died_are_cleared_away_after_a_day(root: Path, file: Path) -> None:
    ages = {".adding-old": 25, ".dropped-old": 25, ".adding-young": 23}
    for name, hours in ages.items():
        (root / name / "inner").mkdir(parents=True)
        at = time.time() - hours * 3600
        os.utime(root / name, (at, at))

    store.add(root, file, "iris")

    assert {path.name for path in root.iterdir()} == {".adding-young", "iris"}


def test_links_are_not_followed_out_of_the_folder(root: Path, file: Path, other: Path) -> None:
    added = store.add(root, file, "iris")
    added.path.unlink()
    added.path.symlink_to(other)

    with pytest.raises(ModelError, match="neither a plain file"):
        store.open_artifact(root, "iris", 1, added.digest)


def test_the_error_for_a_missing_version_names_the_searched_path(root: Path, file: Path) -> None:
    added = store.add(root, file, "iris")

    with pytest.raises(ModelError, match=r"iris/2 is recorded, but .*artifacts/iris/2 is not there"):
        store.open_artifact(root, "iris", 2, added.digest)


def test_a_copy_in_the_store_is_closed_to_others_whatever_its_source_was(root: Path, file: Path) -> None:
    file.chmod(0o644)

    added = store.add(root, file, "iris")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (added.folder, *added.folder.rglob("*"))}
    assert modes == {"1": 0o700, "model.skops": 0o600, "model.toml": 0o600}


def test_a_store_that_is_shared_with_a_group_is_read_by_it(root: Path, file: Path) -> None:
    root.mkdir()
    root.chmod(0o2750)

    added = store.add(root, file, "iris")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (added.folder, *added.folder.rglob("*"))}
    assert modes == {"1": 0o2750, "model.skops": 0o640, "model.toml": 0o640}


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_only_regular_files_are_added(root: Path, file: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other.skops"
    match kind:
        case "link":
            other.symlink_to(file)
        case "pipe":
            os.mkfifo(other)
        case "device":
            other.symlink_to("/dev/zero")

    with pytest.raises(StoreError, match=r"only regular files are added|is not there"):
        store.add(root, other, "iris")

    assert [*root.rglob("*.skops")] == []
    assert [*root.glob(".adding-*")] == []


def test_a_link_in_a_package_is_not_followed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("class C: pass\n")
    (tmp_path / "private").write_text("a key")
    (tmp_path / "mine" / "key").symlink_to(tmp_path / "private")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreError, match="mine/key is a link"):
        store.add(root, "mine:C", "mine")

    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["", "Iris", "9lives", "../x", "a/b", "a.b", "a" * 41, "iris\n", "a b", "."])
def test_a_name_that_is_no_plain_word_is_refused(root: Path, file: Path, name: str) -> None:
    with pytest.raises(StoreError, match="not a model's name"):
        store.add(root, file, name)
    with pytest.raises(StoreError, match="not a model's name"):
        store.open_artifact(root, name, 1, "0" * 64)
    assert not root.exists()


def refused(root: Path, file: Path, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        store.add(root, file, "iris", AddOptions(**options))
    assert local.versions(root, "iris") == []
    assert not root.exists() or not list(root.iterdir())


@pytest.mark.quick
def test_pickles_and_unknown_files_are_refused_with_the_way_to_convert(root: Path, tmp_path: Path) -> None:
    for suffix, match in ((".pkl", "runs code"), (".joblib", "runs code"), (".csv", "unknown model format")):
        (tmp_path / f"m{suffix}").write_bytes(pickle.dumps(LogisticRegression()))
        refused(root, tmp_path / f"m{suffix}", f"{match}.*skops.io.dump")
    refused(root, tmp_path / "absent.skops", "is not there")


def test_damaged_files_are_refused_in_one_line(root: Path, file: Path, tmp_path: Path) -> None:
    for name, content in (("cut.skops", file.read_bytes()[:2000]), ("x.skops", b""), ("y.onnx", b"junk" * 9)):
        (tmp_path / name).write_bytes(content)
        refused(root, tmp_path / name, r"was not added: [^\n]* cannot be (read|loaded)[^\n]*$")


def test_an_operator_that_onnx_runtime_lacks_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matmul(np.ones((4, 2), np.float32), "n", "Conjure").SerializeToString())

    refused(root, tmp_path / "m.onnx", r"was not added: [^\n]*cannot be loaded by ONNX Runtime [^\n]*Conjure[^\n]*$")


def test_an_onnx_file_of_a_fixed_number_of_rows_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matmul(np.ones((4, 2), np.float32), 1).SerializeToString())

    refused(root, tmp_path / "m.onnx", "exactly 1 rows")


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), st.binary(max_size=4), min_size=1, max_size=3))
def test_the_digest_changes_when_bytes_move_between_files(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    def written(content: dict[str, bytes]) -> str:
        folder = tmp_path_factory.mktemp("digest")
        for name, data_ in content.items():
            (folder / name).write_bytes(data_)
        return digest(folder)

    last = max(files)
    moved = files | {last: files[last][1:], last + "a": files[last][:1]}
    renamed = {name + "b": data_ for name, data_ in files.items()}

    assert written(files) == written(dict(reversed(files.items())))
    assert len({written(files), written(moved), written(renamed)}) == 3


def test_formats_are_imported_only_when_used() -> None:
    heavy = {"sklearn", "skops", "onnxruntime", "pandas", "mlflow", "torch"}
    script = f"import sys, scorebeat.models.store.store; print({heavy!r} & {{*sys.modules}})"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert found.stdout.strip() == b"set()"
