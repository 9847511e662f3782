"""Trains the example's classifier and writes its files: python -m scorebeat.examples.iris.train [FOLDER]."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from scorebeat.examples.iris.data import FEATURES
from scorebeat.models.formats.shared.light_skops import skops_io


def classifier() -> Pipeline:
    """A scaled support-vector machine with calibrated probabilities (scikit-learn 1.11 drops SVC's own)."""
    return make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False))


def train() -> tuple[Pipeline, float]:
    """The fitted classifier, and its accuracy in five-fold cross-validation."""
    iris = load_iris()
    species = iris.target_names[iris.target]
    accuracy = cross_val_score(classifier(), iris.data, species, cv=5).mean()
    named = pa.table(dict(zip(FEATURES, iris.data.T, strict=True)))  # a table, because it has the names
    return classifier().fit(named, species), float(accuracy)


def write_skops(model: Pipeline, path: Path) -> None:
    """Write the model as scikit-learn's numbers, without pickle."""
    skops_io().dump(model, path)  # skops.io.dump, which would load PyTorch if that is installed


def write_onnx(model: Pipeline, path: Path) -> None:
    """Write the model as an ONNX graph over one tensor of [rows, 4]. Raises ImportError without skl2onnx."""
    from onnx.helper import set_model_props  # noqa: PLC0415 - a development dependency
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    wanted = [("values", FloatTensorType([None, len(FEATURES)]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # skl2onnx reads attributes that scikit-learn will drop
        graph: Any = to_onnx(model, initial_types=wanted, options={"zipmap": False})
    set_model_props(graph, {"classes": json.dumps(np.asarray(model.classes_).tolist())})
    path.write_bytes(graph.SerializeToString())


def main(folder: Path) -> None:
    """Train, write both files into `folder`, and print the model's accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    model, accuracy = train()
    print(f"iris: accuracy {accuracy:.3f} in five-fold cross-validation, classes {', '.join(model.classes_)}")
    write_skops(model, folder / "iris.skops")
    print(f"wrote {folder / 'iris.skops'}")
    try:
        write_onnx(model, folder / "iris.onnx")
        print(f"wrote {folder / 'iris.onnx'}")
    except ImportError as error:
        print(f"iris.onnx was not written: {error.name} is not installed (pip install 'scorebeat[dev]')")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
