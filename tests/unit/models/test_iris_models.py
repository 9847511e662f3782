"""The example's model is the same in both formats, and its rows look like flowers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris

from scorebeat.examples.iris import data, train
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store


def test_the_iris_example_scores_alike_in_both_formats(tmp_path: Path) -> None:
    train.main(tmp_path)
    rows = pa.RecordBatch.from_pydict({"values": data.rows(500).tolist()})
    scored = []
    for file in ("iris.skops", "iris.onnx"):
        artifact = store.add(tmp_path / "store", tmp_path / file, "iris")
        fed = bind(artifact.signature, rows.schema).apply(rows)
        scored.append(score_rows.predict(registry.load(artifact), fed).to_pydict())

    assert scored[0].keys() == scored[1].keys() == {"label", "setosa", "versicolor", "virginica"}
    for name in ("setosa", "versicolor", "virginica"):
        assert_allclose(scored[0][name], scored[1][name], atol=1e-5)
    sure = np.max([scored[0][n] for n in ("setosa", "versicolor", "virginica")], axis=0) > 0.51
    assert np.array_equal(np.array(scored[0]["label"])[sure], np.array(scored[1]["label"])[sure])


def test_the_iris_rows_are_the_same_each_time_and_like_flowers() -> None:
    rows = data.rows()

    assert rows.shape == (65_322, 4)
    assert np.array_equal(rows, data.rows())
    assert rows.min() > 0
    assert_allclose(rows.mean(axis=0), load_iris().data.mean(axis=0), atol=0.05)
    assert np.array_equal(rows, rows.round(1))
