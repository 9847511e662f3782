"""A package with a class, and beside it the file of the model that the class opens."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Write = Callable[..., None]
CLASS = """
    class C:
        inputs = {"n": "int64"}
        outputs = {"word": "string"}

        def __init__(self, files, device):
            pass

        def predict(self, rows):
            return {"word": ["a"] * len(rows)}
"""
"""A class that returns one letter a row."""
CODE = """
from pathlib import Path

from scorebeat.models.inner import open_model

NAMES = ("a", "b", "c", "d")


class Flowers:
    inputs = dict.fromkeys(NAMES, "float64")

    def __init__(self, files, device):
        self.model = open_model(Path(__file__).parent / "flowers.skops", device, inputs=NAMES)
        self.outputs = {name: "string" if name == "label" else "float64" for name in self.model.outputs.names}

    def predict(self, rows):
        return self.model.predict(rows)
"""


def flowers(folder: Path) -> tuple[Path, Callable[[NDArray[np.float64]], list[Any]]]:
    """Writes the package `flowers_package` and makes it importable; returns its class and a plain loop."""
    iris = load_iris()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target_names[iris.target])
    package = folder / "flowers_package"
    package.mkdir()
    (package / "__init__.py").write_text(CODE, "utf-8")
    skops.io.dump(model, package / "flowers.skops")
    sys.path.append(str(folder))
    return Path("flowers_package:Flowers"), lambda row: [*model.predict(row), *model.predict_proba(row)[0]]
