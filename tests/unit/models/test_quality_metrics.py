"""Which output a truth is compared with, and what is left out of the metrics and named."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from scorebeat.core.errors import SignatureError
from scorebeat.models.outputs.quality import measure, target

F = pa.float64()
GENERATOR = np.random.default_rng(3)


def outputs(**types: pa.DataType) -> pa.Schema:
    return pa.schema([*types.items()])


def rows(truth: Any, output: Any, chances: np.ndarray[Any, Any] | None = None) -> pa.Table:
    columns = {"truth": pa.array(truth), "output": pa.array(output)}
    return pa.table(columns | {f"p{at}": column for at, column in enumerate([] if chances is None else chances.T)})


@pytest.mark.parametrize(
    ("schema", "output", "is_class", "probabilities"),
    [
        (outputs(label=pa.string(), no=F, yes=F), "label", True, ("no", "yes")),
        (outputs(label=pa.bool_(), class_false=F, class_true=F), "label", True, ("class_false", "class_true")),
        (outputs(label=F, class_0=F, class_1=F), "label", True, ("class_0", "class_1")),
        (outputs(kind=pa.int64()), "kind", True, ()),
        (outputs(value=F), "value", False, ()),
        (outputs(amount=pa.float32()), "amount", False, ()),
    ],
)
def test_the_output_that_is_compared_is_the_label_or_the_only_number(
    schema: pa.Schema, output: str, is_class: bool, probabilities: tuple[str, ...]
) -> None:
    found = target(schema)
    assert (found.output, found.is_class, found.probabilities) == (output, is_class, probabilities)


@pytest.mark.parametrize(
    "schema",
    [
        outputs(value_0=F, value_1=F),
        outputs(label_0=pa.int64(), label_1=pa.int64()),
        outputs(embedding=pa.list_(F)),
        outputs(label=pa.int64(), at=pa.date32()),
    ],
)
def test_a_model_with_several_outputs_has_nothing_to_compare(schema: pa.Schema) -> None:
    with pytest.raises(SignatureError, match="neither one label"):
        target(schema)


@pytest.mark.parametrize(
    ("label", "output", "expected"),
    [
        (pa.bool_(), pa.int64(), "whole"),
        (pa.int16(), pa.bool_(), "whole"),
        (F, pa.int64(), "float"),
        (pa.string(), pa.string(), "text"),
        (pa.int64(), pa.string(), "expected a text"),
        (pa.string(), pa.int64(), "expected a whole number"),
        (pa.bool_(), F, "expected a number"),
        (pa.date32(), F, "expected a number"),
        (pa.int32(), F, "float"),
    ],
)
def test_types_that_can_be_compared_are_and_others_are_named(
    label: pa.DataType, output: pa.DataType, expected: str
) -> None:
    of = target(outputs(label=output) if not pa.types.is_floating(output) else outputs(value=output))
    if expected.startswith("expected"):
        with pytest.raises(SignatureError, match=f"'label' is {re.escape(str(label))}.*{expected}"):
            of.compared_as(label)
    else:
        assert of.compared_as(label) == expected


def test_of_several_classes_each_is_compared_with_the_rest() -> None:
    of = target(outputs(label=pa.int64(), class_0=F, class_1=F, class_2=F))
    chances = GENERATOR.dirichlet([1, 1, 1], 500)
    truth = GENERATOR.integers(0, 3, 500)
    found = measure(of, "whole", rows(truth, chances.argmax(axis=1), chances))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, chances, multi_class="ovr"), rel=1e-12)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, chances), rel=1e-12)
    assert found["calibration"]["of"] == "the most probable class"
    assert sum(each["rows"] for each in found["calibration"]["bins"]) == 500

    rare = measure(of, "whole", rows(truth[truth < 2], chances.argmax(axis=1)[truth < 2], chances[truth < 2]))
    known = chances[truth < 2]
    each = [metrics.roc_auc_score(truth[truth < 2] == at, known[:, at]) for at in (0, 1)]
    assert rare["roc_auc"] == pytest.approx(np.mean(each))
    assert rare["notes"] == ["roc_auc without 2: no row, or each, has that label"]


def test_rows_that_cannot_be_compared_are_left_out_counted_and_named() -> None:
    of = target(outputs(label=pa.string(), no=F, yes=F))
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan], [0.4, 0.6], [0.5, 0.5]])
    found = measure(of, "text", rows(["no", "yes", "yes", "maybe", "no"], ["no", "yes", "no", "yes", None], chances))
    assert (found["compared"], found["left_out"], found["accuracy"]) == (4, 1, 0.5)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(["no", "yes"], chances[:2], labels=["no", "yes"]))
    assert found["notes"] == [
        "1 rows have a label that the model does not know; they count in the accuracy alone",
        "1 rows have no probabilities; they count in the accuracy alone",
    ]


def test_outputs_that_are_no_probabilities_are_not_read_as_such() -> None:
    renamed = target(outputs(label=pa.string(), p_no=F, p_yes=F))
    chances = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = measure(renamed, "text", rows(["no", "yes"], ["no", "yes"], chances))
    assert (found["accuracy"], found["log_loss"], found["roc_auc"]) == (1.0, None, None)
    assert "have no classes' names" in found["notes"][0]
    scores = target(outputs(label=pa.string(), no=F, yes=F))
    found = measure(scores, "text", rows(["no", "yes"], ["no", "yes"], chances * 3))
    assert "do not sum to 1" in found["notes"][0]
    detector = target(outputs(label=pa.int64(), score=F))
    found = measure(detector, "whole", rows([1, -1], [1, 1], np.array([[0.3], [0.1]])))
    assert (found["accuracy"], found["log_loss"]) == (0.5, None)


def test_no_number_is_no_metric() -> None:
    of = target(outputs(value=F))
    assert measure(of, "float", rows([np.nan], [1.0]))["notes"]
    assert measure(of, "float", rows([2.0], [1.0]))["r2"] is None


@pytest.mark.filterwarnings("error")
def test_differences_that_no_float_holds_are_named_where_their_metrics_are_missing() -> None:
    found = measure(target(outputs(amount=pa.float64())), "float", rows([1e308, -1e308], [-1e308, 1e308]))

    assert (found["rmse"], found["mae"], found["r2"]) == (None, None, None)
    assert found["notes"] == ["no rmse, mae, r2: the differences are too large for a float"]
