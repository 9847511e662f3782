"""ONNX files of the shapes that exporters write, each with the loop that its predictions must equal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_graph
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

IRIS = load_iris()
SPECIES = IRIS.target_names[IRIS.target]
Loop = Callable[[NDArray[np.float64]], list[Any]]
WIDTH = 100
OPSET = [helper.make_opsetid("", 18)]


def _write(graph: Any, path: Path) -> ort.InferenceSession:
    save_graph(graph, path)
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def tensor_classifier(folder: Path) -> tuple[Path, Loop]:
    """Label and a tensor of probabilities, with the class names in the metadata."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS.data, SPECIES)
    graph = to_onnx(model, IRIS.data[:1].astype(np.float32), options={"zipmap": False})
    helper.set_model_props(graph, {"classes": json.dumps(model.classes_.tolist())})
    session = _write(graph, folder / "tensor.onnx")

    def loop(row: NDArray[np.float64]) -> list[Any]:
        label, probabilities = session.run(None, {"X": row.astype(np.float32)})
        return [label[0], *probabilities[0].tolist()]

    return folder / "tensor.onnx", loop


def zipmap_classifier(folder: Path) -> tuple[Path, Loop]:
    """Label and a sequence of maps, skl2onnx's default."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS.data, SPECIES)
    session = _write(to_onnx(model, IRIS.data[:1].astype(np.float32)), folder / "zipmap.onnx")

    def loop(row: NDArray[np.float64]) -> list[Any]:
        label, maps = session.run(None, {"X": row.astype(np.float32)})
        return [label[0], *(maps[0][name] for name in ("setosa", "versicolor", "virginica"))]

    return folder / "zipmap.onnx", loop


def many_inputs(folder: Path) -> tuple[Path, Loop]:
    """Four tensors of [rows, 1], integer classes without names."""
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("plain", "passthrough", [2, 3])])
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(IRIS.data, IRIS.target)
    wanted = [(name, FloatTensorType([None, 1])) for name in "abcd"]
    session = _write(to_onnx(model, initial_types=wanted, options={"zipmap": False}), folder / "many.onnx")

    def loop(row: NDArray[np.float64]) -> list[Any]:
        tensors = {name: row[:, at : at + 1].astype(np.float32) for at, name in enumerate("abcd")}
        label, probabilities = session.run(None, tensors)
        return [int(label[0]), *probabilities[0].tolist()]

    return folder / "many.onnx", loop


def embedding(folder: Path) -> tuple[Path, Loop]:
    """One tensor of [rows, 4] to one of [rows, WIDTH]."""
    weights = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)
    _write(matmul(weights, rows="n"), folder / "embedding.onnx")
    return folder / "embedding.onnx", lambda row: [(row.astype(np.float32) @ weights)[0].tolist()]


def matmul(weights: NDArray[np.float32], rows: str | int, op: str = "MatMul") -> Any:
    """A graph of one operator: `x` [rows, 4] times the weights is `embedding`."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["embedding"])],
        "embed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [rows, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=10)
