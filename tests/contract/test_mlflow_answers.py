"""A pyfunc model's output, of any form, becomes the columns of its outputs, or is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scorebeat.core.errors import OutputError
from scorebeat.models.formats.mlflow.outputs import columns, outputs_seen_in


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.array([1.5, 2.5]), {"value": [1.5, 2.5]}),
        (np.array(["a", "b"]), {"label": ["a", "b"]}),
        (np.array(["a", None], dtype=object), {"label": ["a", None]}),
        (np.array([[1.5], [2.5]]), {"value": [1.5, 2.5]}),
        (np.array([[1, 2], [3, 4]], dtype=np.uint8), {"value_0": [1, 3], "value_1": [2, 4]}),
        (np.arange(140, dtype=np.float32).reshape(2, 70), {"value": [[*range(70)], [*range(70, 140)]]}),
        ([True, False], {"label": [True, False]}),
        (["a", "b"], {"label": ["a", "b"]}),
        ([{"x": 1.0, "y": "a"}, {"x": 2.0, "y": "b"}], {"x": [1.0, 2.0], "y": ["a", "b"]}),
        (pd.Series([1.5, 2.5]), {"value": [1.5, 2.5]}),
        (pd.Series(["a", "b"], name="kind"), {"kind": ["a", "b"]}),
        (pd.DataFrame({"x": [1, 2], "y": ["a", None]}), {"x": [1, 2], "y": ["a", None]}),
        (pd.DataFrame({"x": pd.Categorical(["a", "b"])}), {"x": ["a", "b"]}),
        (pd.DataFrame({"v": [[1.0, 2.0], [3.0, 4.0]]}), {"v": [[1.0, 2.0], [3.0, 4.0]]}),
        ({"p": np.array([[0.1, 0.9]]), "l": ["a"]}, {"p_0": [0.1], "p_1": [0.9], "l": ["a"]}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_output_of_each_form_becomes_columns(output: Any, expected: dict[str, list[Any]]) -> None:
    found = outputs_seen_in(output)
    outputs = pa.schema(found.fields)

    batch = pa.RecordBatch.from_arrays(columns(output, found.parts, outputs), schema=outputs)

    assert batch.to_pydict() == expected


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"x": [1.0]}, "returned x, and not y"),
        (np.zeros((2, 3)), "3 columns of 2, 2, 2 rows, expected 2 columns: x, y"),
        ({"x": [1.0], "y": [1.0, 2.0]}, "2 columns of 1, 2 rows"),
    ],
)
def test_an_output_of_another_form_than_the_first_is_refused(output: Any, message: str) -> None:
    outputs = pa.schema({"x": pa.float64(), "y": pa.float64()})

    with pytest.raises(OutputError, match=message):
        columns(output, ("x", "y"), outputs)
