"""ONNX graphs by skl2onnx and onnxmltools, and one with its weights in a file beside it, predicted by ONNX Runtime."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from scorebeat.models.contract import AddOptions
from tests.parity import frames
from tests.parity.case import Built, Case, Expected
from tests.parity.cases import lightgbm_models, xgboost_models
from tests.parity.cases.prepared import QUOTED, columns_of, logistic, scaled, strange, words
from tests.parity.fitted import types_of

NUMBERS = ("age", "income", "debt", "visits")
Feeds = Callable[[Any], dict[str, Any]]


def matrix(frame: Any) -> dict[str, Any]:
    """One tensor of [rows, columns]."""
    return {"input": frame.to_numpy(np.float32)}


def tensors(frame: Any) -> dict[str, Any]:
    """A tensor of [rows, 1] for each column."""
    return {
        name: frame[[name]].to_numpy(
            object if frame[name].dtype.kind == "O" or str(frame[name].dtype) == "str" else np.float32
        )
        for name in frame.columns
    }


def graph_of(
    model: Any,
    columns: Sequence[str],
    y: Callable[[Any], Any],
    convert: Callable[[Any], Any],
    feeds: Feeds,
    names: Sequence[str],
    *,
    nulls: bool = True,
    x: Callable[[Any], Any] = lambda frame: frame,
    **options: Any,
) -> Case:
    """A fitted model, converted, and the outputs of a session: `names` are those of its outputs."""

    def build(folder: Path) -> Built:
        everyone = frames.customers()
        made = (model() if callable(model) else model).fit(x(everyone[[*columns]]), y(everyone))
        (folder / "model.onnx").write_bytes(convert(made).SerializeToString())
        return Built(
            folder / "model.onnx",
            frames.today(columns, nulls=nulls),
            by_session(folder / "model.onnx", feeds, names),
            AddOptions(**options),
            types_of(columns),
        )

    return Case(build, needs=("skl2onnx", "onnxmltools"))


def by_session(path: Path, feeds: Feeds, names: Sequence[str]) -> Callable[[Any], Expected]:
    """ONNX Runtime's predictions of a DataFrame: the first of two names is the label's, the others the classes'."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(frame: Any) -> Expected:
        first, *rest = session.run(None, feeds(frame))
        columns: list[Any] = [np.asarray(first)] if np.ndim(first) == 1 else [*np.asarray(first).T]
        for each in rest:
            table = np.array([[*row.values()] for row in each], np.float32) if isinstance(each, list) else each
            columns += [*table.T]
        return dict(zip(names, columns, strict=True))

    return predict


def by_skl2onnx(inputs: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    def convert(model: Any) -> Any:
        types = import_module("skl2onnx.common.data_types")
        return import_module("skl2onnx").to_onnx(model, initial_types=inputs(types), **options)

    return convert


def by_onnxmltools(kind: str) -> Callable[[Any], Any]:
    def convert(model: Any) -> Any:
        types = import_module("onnxmltools.convert.common.data_types")
        inputs = [("input", types.FloatTensorType([None, len(NUMBERS)]))]
        return getattr(import_module("onnxmltools"), f"convert_{kind}")(model, initial_types=inputs)

    return convert


def floats(types: Any) -> Any:
    return [("input", types.FloatTensorType([None, len(NUMBERS)]))]


def each_column(types: Any) -> Any:
    return [
        (name, types.StringTensorType([None, 1]) if name == "grade" else types.FloatTensorType([None, 1]))
        for name in ("age", "debt", "grade")
    ]


def beside(folder: Path) -> Built:
    """A linear layer as PyTorch exports it by default: the weights lie in a file beside the graph."""
    onnx = import_module("onnx")
    weights = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["input", "weights"], ["hidden"]),
            onnx.helper.make_node("ReduceMean", ["hidden"], ["value"], axes=[1], keepdims=0),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["rows", 4])],
        [onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, ["rows"])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    frame = frames.today(NUMBERS, nulls=False).assign(
        income=lambda f: f["income"] / 1e4, debt=lambda f: f["debt"] / 1e3
    )
    return Built(
        folder / "model.onnx",
        frame.fillna(0.5),
        by_session(folder / "model.onnx", matrix, ("value",)),
        AddOptions(inputs=NUMBERS),
    )


CASES = {
    "ONNX, scaled and classified": graph_of(
        make_pipeline(scaled(), logistic()),
        NUMBERS,
        strange,
        by_skl2onnx(floats),
        matrix,
        ("label", *sorted(QUOTED)),
        x=lambda frame: frame.to_numpy(np.float32),
        inputs=NUMBERS,
    ),
    "ONNX, a tensor a column": graph_of(
        make_pipeline(columns_of((scaled(), ["age", "debt"]), (words(), ["grade"])), Ridge()),
        ("age", "debt", "grade"),
        frames.spent,
        by_skl2onnx(each_column),
        tensors,
        ("variable",),
        nulls=False,
    ),
    "ONNX, texts": graph_of(
        make_pipeline(TfidfVectorizer(lowercase=False), logistic()),
        ("review",),
        lambda customers: frames.churned(customers).astype(int),
        by_skl2onnx(lambda types: [("review", types.StringTensorType([None]))], options={"zipmap": False}),
        lambda frame: {"review": frame["review"].to_numpy(object)},
        ("label", "probabilities_0", "probabilities_1"),
        x=lambda frame: frame["review"],
        nulls=False,
    ),
    "ONNX, XGBoost by onnxmltools": graph_of(
        xgboost_models.estimator("XGBClassifier"),
        NUMBERS,
        xgboost_models.zero_or_one,
        by_onnxmltools("xgboost"),
        matrix,
        ("label", "probabilities_0", "probabilities_1"),
        x=lambda frame: frame.to_numpy(np.float32),
        inputs=NUMBERS,
    ),
    "ONNX, LightGBM by onnxmltools": graph_of(
        lightgbm_models.estimator("LGBMRegressor"),
        NUMBERS,
        frames.spent,
        by_onnxmltools("lightgbm"),
        matrix,
        ("variable",),
        x=lambda frame: frame.to_numpy(np.float32),
        inputs=NUMBERS,
    ),
    "ONNX, weights in a file beside it": Case(beside, needs=("onnx",)),
}
