"""Predictions in several threads: rows of one caller never meet those of another in a model's own object."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scorebeat.core.errors import ServiceDown
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats.onnx import onnx_format
from scorebeat.models.formats.sklearn.outputs import is_of_scikit_learn
from scorebeat.online.predictor import Predictor
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish

OF_ONE_OBJECT = """
    import time

    class C:
        inputs = {"x": "float64"}
        outputs = {"y": "float64"}
        thread_safe = False

        def __init__(self, files, device):
            self.rows = None

        def predict(self, rows):
            self.rows = rows["x"].to_pylist()
            time.sleep(0.02)
            return {"y": [2 * x for x in self.rows]}
"""


@pytest.fixture
def added(producer: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Predictor]:
    """A class of this text, added as the model `m`."""
    monkeypatch.chdir(tmp_path)

    def add(text: str) -> Predictor:
        (tmp_path / "kept.py").write_text(dedent(text))
        publish.add(producer, "kept:C", "m", "test")
        return Predictor(producer)

    return add


def test_callers_in_several_threads_get_the_predictions_of_their_own_rows(added: Callable[[str], Predictor]) -> None:
    predictor = added(OF_ONE_OBJECT)

    def predict(at: int) -> list[dict[str, Any]]:
        return predictor.predict("m", [{"x": float(at)}, {"x": at + 0.5}])

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(predict, range(32)))

    assert found == [[{"y": 2.0 * at}, {"y": 2.0 * at + 1}] for at in range(32)]


HANGS = """
    import threading

    class C:
        inputs = {"x": "float64"}
        outputs = {"y": "float64"}

        def __init__(self, files, device):
            pass

        def predict(self, rows):
            if rows["x"][0].as_py() == 13.0:
                threading.hanging = threading.Event()
                threading.entered.set()
                threading.hanging.wait(60)
            return {"y": rows["x"]}
"""


def test_a_prediction_that_hangs_stops_others_for_at_most_the_time_limit(
    added: Callable[[str], Predictor], producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(HANGS)
    predictor = Predictor(Producer(producer.settings.model_copy(update={"row_time_limit": 1}), "test"))
    monkeypatch.setattr(threading, "entered", threading.Event(), raising=False)

    with ThreadPoolExecutor(1) as threads:
        hung = threads.submit(predictor.predict, "m", [{"x": 13.0}])
        assert threading.entered.wait(60)  # type: ignore[attr-defined]  # set above, where the model's code finds it
        with pytest.raises(ServiceDown, match="m/1 makes one prediction at a time"):
            predictor.predict("m", [{"x": 1.0}])
        assert predictor.predict("m", [{"x": 2.0}]) == [{"y": 2.0}]
        threading.hanging.set()  # type: ignore[attr-defined]  # as above
        assert hung.result() == [{"y": 13.0}]


def test_formats_declare_whether_several_threads_may_be_in_a_model(producer: Producer, tmp_path: Path) -> None:
    x = np.array([[-1.0], [1.0]])
    own = LogisticRegression().fit(x, [0, 1])
    strange = make_pipeline(FunctionTransformer(_strange), LogisticRegression()).fit(x, [0, 1])
    skops.io.dump(own, tmp_path / "own.skops")
    publish.add(producer, tmp_path / "own.skops", "own", "test", AddOptions(("x",)))
    predictor = Predictor(producer)

    predictor.predict("own", [{"x": 1.0}])

    assert predictor._models["own", 1].model.thread_safe is True  # type: ignore[attr-defined]  # some models have it
    assert not is_of_scikit_learn(strange)
    assert onnx_format.OnnxModel.thread_safe


def _strange(x: Any) -> Any:
    return x
