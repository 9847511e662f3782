"""The model of a task, loaded once a process."""

from functools import lru_cache
from typing import Any

import joblib
import pandas as pd

from benchmarks.peers.programs.task import Task


class Model:
    """A fitted classifier of scikit-learn with the columns that it reads and returns."""

    def __init__(self, task: Task) -> None:
        self.fitted = joblib.load(task.model)
        self.inputs = list(task.inputs)
        self.outputs = list(task.outputs)
        self.is_text = task.is_text

    def use_all_cores(self) -> "Model":
        """For a program of one process: scikit-learn's own threads, in models that have them."""
        if "n_jobs" in self.fitted.get_params() and hasattr(self.fitted, "estimators_"):
            self.fitted.set_params(n_jobs=-1)
        return self

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The outputs, with the index of the rows."""
        features: Any = rows[self.inputs[0]] if self.is_text else rows[self.inputs].to_numpy()
        probabilities = self.fitted.predict_proba(features)
        labels = self.fitted.classes_[probabilities.argmax(axis=1)]
        columns = dict(zip(self.outputs, [labels, *probabilities.T], strict=True))
        return pd.DataFrame(columns, index=rows.index)

    def predict_row(self, row: Any) -> dict[str, Any]:
        """The outputs of one row, whose attributes are the inputs."""
        features = [getattr(row, name) for name in self.inputs]
        probabilities = self.fitted.predict_proba(features if self.is_text else [features])[0]
        label = self.fitted.classes_[probabilities.argmax()]
        return dict(zip(self.outputs, [str(label), *map(float, probabilities)], strict=True))


@lru_cache(maxsize=1)
def loaded(task: Task) -> Model:
    """The model, for programs whose processes outlive a call."""
    return Model(task)
