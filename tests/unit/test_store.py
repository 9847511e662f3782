"""The store gives back exactly what was added, or says what is wrong; a version never changes."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from core.errors import ModelError, StoreError
from models import store
from models.artifact import MANIFEST, digest
from models.contract import Given
from tests.contract.onnx_files import embedding, matmul

X, Y = load_iris(return_X_y=True)


def dump(path: Path, model: Any) -> Path:
    skops.io.dump(model, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return dump(tmp_path / "iris.skops", LogisticRegression(max_iter=1000).fit(X, Y))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return dump(tmp_path / "other.skops", LogisticRegression(C=0.1, max_iter=1000).fit(X, Y))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def test_what_was_added_is_opened_with_its_digest_alone(root: Path, file: Path) -> None:
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
    assert store.versions(root, "iris") == [1, 2, 3]


def test_a_new_version_is_above_what_the_database_knows(root: Path, file: Path) -> None:
    assert store.add(root, file, "iris", newest_recorded=7).version == 8


def test_adds_at_the_same_time_never_share_a_version(root: Path, file: Path, other: Path) -> None:
    script = "import sys; from pathlib import Path; from models import store; a = [Path(x) for x in sys.argv[1:]]; "
    script += "print(*(store.add(a[0], f, 'iris').version for f in a[1:] * 4))"
    here = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", script, root, file, other], stdout=subprocess.PIPE, cwd=here)
        for _ in range(2)
    ]

    out = [p.communicate()[0].decode().split() for p in running]

    assert [p.returncode for p in running] == [0, 0]
    found = store.versions(root, "iris")
    assert found == list(range(1, len(found) + 1))
    assert {int(v) for answered in out for v in answered} == set(found)
    for version in found:
        folder = root / "iris" / str(version)
        assert (folder / "model.skops").read_bytes() in (file.read_bytes(), other.read_bytes())


def test_a_version_number_that_is_taken_is_never_overwritten(
    root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = root / "iris" / "1"
    taken.mkdir(parents=True)
    (taken / "theirs").write_text("x")
    monkeypatch.setattr(store, "versions", lambda *_: [])  # as if it came after the look

    assert store.add(root, file, "iris").version == 2
    assert [p.name for p in taken.iterdir()] == ["theirs"]


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


def test_links_are_not_followed_out_of_the_folder(root: Path, file: Path, other: Path) -> None:
    added = store.add(root, file, "iris")
    added.path.unlink()
    added.path.symlink_to(other)

    with pytest.raises(ModelError, match="neither a plain file"):
        store.open_artifact(root, "iris", 1, added.digest)


def test_a_missing_version_says_where_it_was_sought(root: Path, file: Path) -> None:
    added = store.add(root, file, "iris")

    with pytest.raises(ModelError, match=r"iris/2 is recorded, but .*artifacts/iris/2 is not there"):
        store.open_artifact(root, "iris", 2, added.digest)


@pytest.mark.parametrize("name", ["", "Iris", "9lives", "../x", "a/b", "a.b", "a" * 41, "iris\n", "a b", "."])
def test_a_name_that_is_no_plain_word_is_refused(root: Path, file: Path, name: str) -> None:
    with pytest.raises(StoreError, match="not a model's name"):
        store.add(root, file, name)
    with pytest.raises(StoreError, match="not a model's name"):
        store.open_artifact(root, name, 1, "0" * 64)
    assert not root.exists()


def refused(root: Path, file: Path, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        store.add(root, file, "iris", Given(**options))
    assert store.versions(root, "iris") == []
    assert not root.exists() or not list(root.iterdir())


def test_pickles_and_unknown_files_are_refused_with_the_way_to_convert(root: Path, tmp_path: Path) -> None:
    for suffix, match in ((".pkl", "runs code"), (".joblib", "runs code"), (".txt", "unknown model format")):
        (tmp_path / f"m{suffix}").write_bytes(pickle.dumps(LogisticRegression()))
        refused(root, tmp_path / f"m{suffix}", f"{match}.*skops.io.dump")
    refused(root, tmp_path / "absent.skops", "is not there")


def test_damaged_files_are_refused_in_one_line(root: Path, file: Path, tmp_path: Path) -> None:
    for name, content in (("cut.skops", file.read_bytes()[:2000]), ("x.skops", b""), ("y.onnx", b"junk" * 9)):
        (tmp_path / name).write_bytes(content)
        refused(root, tmp_path / name, r"was not added: [^\n]* cannot be (read|loaded)[^\n]*$")


def test_an_operator_that_onnx_runtime_lacks_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matmul(np.ones((4, 2), np.float32), "n", "Conjure").SerializeToString())

    refused(root, tmp_path / "m.onnx", "Conjure")


def test_an_onnx_file_of_a_fixed_number_of_rows_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matmul(np.ones((4, 2), np.float32), 1).SerializeToString())

    refused(root, tmp_path / "m.onnx", "exactly 1 rows")


def run_text(x: Any) -> Any:
    return x


def test_code_in_a_skops_file_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    # NumPy's own test helper runs text as code, so that trusting all of numpy would not do
    from numpy.testing import runstring  # noqa: PLC0415

    for function, name in ((run_text, "run_text"), (runstring, "numpy.testing.*runstring")):
        model = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=1000)).fit(X, Y)
        model.steps[0][1].func = function
        refused(root, dump(tmp_path / "m.skops", model), f"not trusted.*{name}")


@pytest.mark.parametrize("name", ["", "label", "batch_id", "scored_at", "xmin", "x" * 64, "ä" * 32, "a\0b"])
def test_a_class_that_no_column_can_be_named_after_is_refused_by_name(root: Path, tmp_path: Path, name: str) -> None:
    model = DecisionTreeClassifier().fit(X, np.array([name, "b", "c"], dtype=object)[Y])
    path = dump(tmp_path / "m.skops", model)

    refused(root, path, "cannot be made")
    assert store.add(root, path, "iris", Given(outputs=("a", "b", "c"))).signature.outputs.names[1:] == ["a", "b", "c"]


def test_wrong_numbers_of_input_and_output_names_are_refused(root: Path, file: Path, tmp_path: Path) -> None:
    onnx, _ = embedding(tmp_path)

    refused(root, file, "wants 4 inputs, but --inputs names 3", inputs=["a", "b", "c"])
    refused(root, file, "names c more than once", inputs=["a", "b", "c", "c"])
    refused(root, file, "gives 4 columns", outputs=["a", "b"])
    refused(root, onnx, "wants 4 values", inputs=["a"])


def test_a_model_that_cannot_score_a_matrix_is_refused(root: Path, tmp_path: Path) -> None:
    several = DecisionTreeClassifier().fit(X, np.stack([Y, Y], axis=1))
    picks = ColumnTransformer([("a", StandardScaler(), [0])]).fit(X)
    picks.transformers_ = [("a", picks.transformers_[0][1], ["sepal"])]
    by_name = make_pipeline(picks, LogisticRegression())
    by_name.steps[1][1].fit(X[:, :1], Y)

    refused(root, dump(tmp_path / "a.skops", StandardScaler().fit(X)), "no predict")
    refused(root, dump(tmp_path / "b.skops", several), "several outputs")
    refused(root, dump(tmp_path / "c.skops", by_name), "picks columns by name")


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
    script = "import sys, models.store; print({'sklearn', 'skops', 'onnxruntime'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )

    assert found.stdout.strip() == b"set()"
