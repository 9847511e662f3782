"""An ONNX model with its weights in files beside it, graphs of training, and NULL in tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, load_model, numpy_helper, save_model
from skl2onnx import to_onnx
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from scorebeat.core.errors import InputError, ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
NAMES = ("a", "b", "c")


def graph(
    nodes: list[Any], weights: dict[str, Any], opset: int = 18, ir: int = 10, kind: int = TensorProto.FLOAT
) -> Any:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["rows", 3])],
        [helper.make_tensor_value_info("y", kind, ["rows", 3])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def linear() -> Any:
    weights = {"w": np.eye(3, dtype=np.float32) * 2, "b": np.ones(3, np.float32)}
    return graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], weights)


def beside(folder: Path, location: str = "net.onnx.data", **how: Any) -> Path:
    """A file with its weights in files beside it."""
    folder.mkdir(parents=True)
    how = how or {"location": location}
    save_model(linear(), folder / "net.onnx", save_as_external_data=True, size_threshold=0, **how)
    return folder / "net.onnx"


def at_location(folder: Path, location: str) -> Path:
    """A file whose declared external weights are there."""
    path = beside(folder)
    model = load_model(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    target = folder / location
    target.parent.mkdir(parents=True, exist_ok=True)
    if target != path:
        target.write_bytes((folder / "net.onnx.data").read_bytes())
    return path


def added(folder: Path, path: Path, *inputs: str) -> Artifact:
    return store.add(folder / "store", path, "m", AddOptions(inputs))


def scored(artifact: Artifact, table: Any = ROWS) -> list[list[Any]]:
    """The model's outputs for rows of three columns, None for NULL."""
    columns = [pa.array(column, pa.float64()) for column in zip(*table, strict=True)]
    rows = pa.RecordBatch.from_arrays(columns, names=list(NAMES))
    bound = bind(artifact.signature, rows.schema).apply(rows)
    return [[*row.values()] for row in score_rows.predict(registry.load(artifact), bound).to_pylist()]


@pytest.mark.parametrize("how", [{"location": "net.onnx.data"}, {"all_tensors_to_one_file": False}], ids=["one", "two"])
def test_weights_in_files_beside_the_model_are_taken_along(tmp_path: Path, how: dict[str, Any]) -> None:
    path = beside(tmp_path / "there", **how)
    wanted = ort.InferenceSession(path).run(None, {"x": ROWS})[0]
    artifact = added(tmp_path, path, *NAMES)
    for file in path.parent.iterdir():
        file.unlink()

    assert scored(artifact) == wanted.tolist()


def test_weights_in_a_folder_below_are_taken_along(tmp_path: Path) -> None:
    artifact = added(tmp_path, at_location(tmp_path / "there", "weights/all.bin"), *NAMES)

    assert scored(artifact) == (ROWS * 2 + 1).tolist()
    assert (artifact.folder / "weights/all.bin").is_file()


def test_the_digest_covers_the_weights(tmp_path: Path) -> None:
    path = beside(tmp_path / "there")
    artifact = added(tmp_path, path, *NAMES)
    again = added(tmp_path, path, *NAMES)
    data = artifact.folder / "net.onnx.data"
    data.chmod(0o600)
    path.with_name("net.onnx.data").write_bytes(data.read_bytes()[::-1])
    other = added(tmp_path, path, *NAMES)
    data.write_bytes(data.read_bytes()[:-1] + b"\x41")

    assert (again.version, again.digest) == (artifact.version, artifact.digest)
    assert (other.version, other.digest != artifact.digest) == (artifact.version + 1, True)
    with pytest.raises(ModelError, match="was altered or damaged"):
        store.open_artifact(tmp_path / "store", "m", artifact.version, artifact.digest)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../outside.bin", "not in its own folder"),
        ("sub/../../outside.bin", "not in its own folder"),
        ("model.toml", "a name that the store needs"),
        ("model.onnx", "a name that the store needs"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str, message: str) -> None:
    (tmp_path / "there/sub").mkdir(parents=True)
    (tmp_path / "there/sub").rmdir()
    (tmp_path / "there").rmdir()

    with pytest.raises(StoreError, match=message):
        added(tmp_path, at_location(tmp_path / "there", location), *NAMES)

    assert not list((tmp_path / "store").glob("m/*"))


def test_weights_at_an_absolute_path_or_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"0" * 48)
    absolute = at_location(tmp_path / "absolute", str(tmp_path / "secret.bin"))
    linked = beside(tmp_path / "linked")
    (tmp_path / "linked/net.onnx.data").unlink()
    (tmp_path / "linked/net.onnx.data").symlink_to(tmp_path / "secret.bin")
    below = at_location(tmp_path / "below", "sub/w.bin")
    (tmp_path / "below/sub").rename(tmp_path / "moved")
    (tmp_path / "below/sub").symlink_to(tmp_path / "moved")

    with pytest.raises(StoreError, match="not in its own folder"):
        added(tmp_path, absolute, *NAMES)
    for path in (linked, below):
        with pytest.raises(StoreError, match="which is a link"):
            added(tmp_path, path, *NAMES)


def test_weights_that_are_absent_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = beside(tmp_path / "there")
    path.with_name("net.onnx.data").unlink()

    with pytest.raises(StoreError, match=r"'net.onnx.data', which is not beside it: copy that file into .*/there, or"):
        added(tmp_path, path, *NAMES)


@pytest.mark.parametrize(("opset", "ir"), [(99, 10), (18, 99)], ids=["opset", "ir"])
def test_a_file_of_another_time_keeps_the_words_of_onnx_runtime(tmp_path: Path, opset: int, ir: int) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(graph([helper.make_node("Relu", ["x"], ["y"])], {}, opset, ir).SerializeToString())
    with pytest.raises(Exception, match="ONNXRuntimeError") as own:
        ort.InferenceSession(path)

    with pytest.raises(StoreError, match="Export it with an older opset") as found:
        added(tmp_path, path)

    assert str(own.value).split("onnxruntime_src")[-1].split("failed:")[-1][-60:].strip(". \n") in str(found.value)


def test_a_damaged_file_is_not_blamed_on_its_opset(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(linear().SerializeToString()[:100])

    with pytest.raises(StoreError, match=r"Protobuf parsing failed\.?$"):
        added(tmp_path, tmp_path / "net.onnx")


HALF, TRUE, FALSE = np.float32(0.5), np.array(True), np.array(False)
ONES = {name: np.ones(3, np.float32) for name in "abcd"}
FROM_A_NODE = [
    helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(TRUE)),
    helper.make_node("Dropout", ["x", "r", "t"], ["y"]),
]
NORMALISES = ["x", "a", "b", "c", "d"]
OF_TRAINING: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "dropout": (
        [helper.make_node("Dropout", ["x", "r", "t"], ["y"], name="drop")],
        {"r": HALF, "t": TRUE},
        "Dropout drop",
    ),
    "dropout, by a node": (FROM_A_NODE, {"r": HALF}, "Dropout"),
    "normalisation": (
        [helper.make_node("BatchNormalization", NORMALISES, ["y", "m", "v"], training_mode=1)],
        ONES,
        "BatchNormalization",
    ),
    "noise": (
        [helper.make_node("RandomNormalLike", ["x"], ["z"], name="noise"), helper.make_node("Add", ["x", "z"], ["y"])],
        {},
        "at each run, with RandomNormalLike noise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_TRAINING)
def test_a_graph_of_training_is_refused_and_its_operator_named(tmp_path: Path, case: str) -> None:
    nodes, weights, message = OF_TRAINING[case]
    save_model(graph(nodes, weights), tmp_path / "net.onnx")

    with pytest.raises(StoreError, match=message):
        added(tmp_path, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (helper.make_node("Dropout", ["x", "r", "t"], ["y"]), {"r": HALF, "t": FALSE}),
        (helper.make_node("Dropout", ["x", "r"], ["y"]), {"r": HALF}),
        (helper.make_node("BatchNormalization", NORMALISES, ["y"]), ONES),
    ],
    ids=["dropout that is off", "dropout", "normalisation"],
)
def test_the_same_operators_for_inference_are_taken(tmp_path: Path, node: Any, weights: dict[str, Any]) -> None:
    save_model(graph([node], weights), tmp_path / "net.onnx")

    assert added(tmp_path, tmp_path / "net.onnx").version == 1


def with_holes(seed: int) -> Any:
    table = np.random.default_rng(seed).normal(40, 10, size=(400, 3))
    table[np.random.default_rng(seed + 1).random((400, 3)) < 0.2] = np.nan
    return table


MISSING: dict[str, Callable[[], Any]] = {
    "mean": lambda: make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)),
    "median": lambda: make_pipeline(SimpleImputer(strategy="median"), LogisticRegression(max_iter=1000)),
}


@pytest.mark.parametrize("case", MISSING)
def test_null_in_a_tensor_of_floats_is_the_nan_of_training(tmp_path: Path, case: str) -> None:
    table = with_holes(0)
    fitted = MISSING[case]().fit(table, np.nan_to_num(table[:, 0], nan=60) > 42)
    exported = to_onnx(fitted, table[:1].astype(np.float32), options={"zipmap": False}, target_opset=18)
    (tmp_path / "net.onnx").write_bytes(exported.SerializeToString())
    artifact = added(tmp_path, tmp_path / "net.onnx", *NAMES)
    holes = [[None if np.isnan(value) else value for value in row] for row in table.tolist()]

    found = np.array(scored(artifact, holes))

    np.testing.assert_allclose(found[:, 2], fitted.predict_proba(table.astype(np.float32))[:, 1], atol=1e-4)
    as_zero = fitted.predict_proba(np.nan_to_num(table, nan=0.0))[:, 1]
    assert np.abs(found[:, 2] - as_zero).max() > 0.05


def test_null_in_a_tensor_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    save_model(graph([helper.make_node("Abs", ["x"], ["y"])], {}, kind=TensorProto.INT64), tmp_path / "net.onnx")
    artifact = added(tmp_path, tmp_path / "net.onnx", *NAMES)
    rows = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())] * 3, names=list(NAMES))

    with pytest.raises(InputError, match="a has 1 NULL"):
        score_rows.predict(registry.load(artifact), rows)


def test_a_graph_that_returns_its_input_returns_a_copy(tmp_path: Path) -> None:
    save_model(graph([helper.make_node("Identity", ["x"], ["y"])], {}), tmp_path / "net.onnx")
    model: Any = registry.load(added(tmp_path, tmp_path / "net.onnx", *NAMES))
    inputs = ROWS.copy()

    (returned,) = model.session.run(None, {"x": inputs})
    inputs[:] = -1

    assert returned.tolist() == ROWS.tolist()
