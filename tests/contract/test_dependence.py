"""Models whose predictions depend on the other rows of a batch are refused, whatever steps hide it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 -- scikit-learn's own way to IterativeImputer
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder

from scorebeat.core.errors import StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.store import store

RNG = np.random.default_rng(0)
WHOLE = pd.DataFrame({"a": RNG.normal(5, 2, 120), "b": RNG.normal(size=120)})
LACKING = WHOLE.mask(RNG.random(WHOLE.shape) < 0.1)
TARGET = (WHOLE["a"] > 5).astype(int)


def added(folder: Path, model: Any, rows: Any = LACKING, **options: Any) -> Artifact:
    (folder / "m.pkl").write_bytes(cloudpickle.dumps(model.fit(rows, TARGET)))
    return store.add(folder / "store", folder / "m.pkl", "m", AddOptions(code=frozenset({"pickle"}), **options))


def own(function: Callable[[Any], Any]) -> FunctionTransformer:
    function.__module__ = "__main__"  # cloudpickle takes its code along
    return FunctionTransformer(function)


def centred(*before: Any) -> Any:
    return make_pipeline(*before, own(lambda x: x - x.mean(axis=0)), LogisticRegression())


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (centred(SimpleImputer()), LACKING),
        (centred(SimpleImputer(strategy="most_frequent")), LACKING.to_numpy()),
        (centred(SimpleImputer(strategy="constant", fill_value=0)), LACKING),
        (centred(MaxAbsScaler()), WHOLE),
        (centred(SimpleImputer()), WHOLE.astype(int)),
    ],
    ids=["mean", "most frequent, unnamed", "constant", "largest", "whole numbers"],
)
def test_a_model_of_which_one_value_a_column_is_known_is_tried_on_rows_that_differ(
    tmp_path: Path, model: Any, rows: Any
) -> None:
    with pytest.raises(StoreError, match=r"a row alone than among other rows: row 1, row 2.*--allow-unsteady"):
        added(tmp_path, model, rows)


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("first", "message"),
    [
        (
            own(lambda x: x.fillna(x.median())),
            "for a row alone, which it scores among other rows, it raises ValueError",
        ),
        (own(lambda x: x.ffill().fillna(0)), "other values for a row alone than among other rows: row 2 of"),
        (own(lambda x: x.fillna({"a": 1.0, "b": x["a"].max()})), "other values for a row alone"),
        (IterativeImputer(sample_posterior=True), "other values when the same rows come again: row 1, row 2 of"),
    ],
    ids=["median", "the row before", "another column's largest", "chance"],
)
def test_a_model_that_fills_nulls_from_the_batch_or_by_chance_is_refused(
    tmp_path: Path, first: Any, message: str
) -> None:
    model = make_pipeline(first, LogisticRegression())

    with pytest.raises(StoreError, match=f"{re.escape(message)}.*with NULLs in a, b"):
        added(tmp_path, model)

    accepted = added(tmp_path, model, unsteady=True)
    assert accepted.evidence is not None
    assert "with NULLs in a, b" in accepted.evidence.unsteady


def test_nulls_are_tried_in_the_columns_in_which_the_model_takes_them(tmp_path: Path) -> None:
    takes_one = own(lambda x: x.assign(b=x["b"].fillna(x["b"].max())))

    with pytest.raises(StoreError, match=r"it raises ValueError.*with NULLs in b\."):
        added(tmp_path, make_pipeline(takes_one, LogisticRegression()), WHOLE)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(own(lambda x: x.fillna(0.5)), LogisticRegression()),
        make_pipeline(IterativeImputer(), LogisticRegression()),
        make_pipeline(KNNImputer(), LogisticRegression()),
        make_pipeline(SimpleImputer(add_indicator=True), MaxAbsScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=["constant", "iterative", "neighbours", "indicator", "trees"],
)
def test_a_model_that_fills_nulls_by_what_it_learnt_is_added(tmp_path: Path, model: Any) -> None:
    assert str(added(tmp_path, model).evidence).startswith("8 invented rows: agree with the library")


COLUMNS = pd.DataFrame({"n": [5, 10, 20, 30] * 30, "on": [True, False, False] * 40, "city": ["Oslo", "Ghent"] * 60})


def joined(rows: Any) -> Any:
    """Distinguishes 5 from 5.0, and truth values from objects."""
    words = rows["n"].map(str) + rows["on"].map(str) + str(rows["n"].dtype) + str(rows["on"].dtype)
    return pd.DataFrame({"words": words, "city": rows["city"]})


def test_a_null_changes_nothing_in_the_rows_around_it(tmp_path: Path) -> None:
    joined.__module__ = "__main__"
    first = make_pipeline(FunctionTransformer(joined), OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(first, LogisticRegression())
    artifact = added(tmp_path, model, COLUMNS, inputs=("n:int64", "on:bool", "city:string"))
    scorer = registry.load(artifact)
    rows = pa.RecordBatch.from_pydict(
        {
            "n": pa.array([5, None, 10, 20, None, 30]),
            "on": pa.array([True, False, None, False, None, True]),
            "city": ["Oslo", "Oslo", None, "Ghent", "Oslo", None],
        }
    )

    together = scorer.predict(rows)

    alone = [scorer.predict(rows.slice(at, 1)) for at in range(rows.num_rows)]
    assert pa.Table.from_batches(alone).to_pydict() == pa.Table.from_batches([together]).to_pydict()
    whole = model.predict_proba(rows.slice(0, 1).to_pandas())  # scikit-learn itself, for a row without NULL
    assert together.column(1)[0].as_py() == pytest.approx(whole[0][0])


@pytest.mark.parametrize(
    ("function", "is_sure"),
    [
        (lambda x: np.c_[~x["on"].fillna(False), x["n"].fillna(0)], False),  # -2 and -1 of objects
        (lambda x: np.c_[x["n"].map(str).str.len(), x["on"] == True], False),  # noqa: E712 -- "5.0"
        (lambda x: np.c_[x["n"].fillna(0) * 2, x["on"].map({True: 1.0, False: 0.0}).fillna(0.5)], True),
    ],
    ids=["objects", "floats", "neither"],
)
def test_own_code_to_which_a_null_changes_the_rows_around_it_is_a_doubt(
    tmp_path: Path, function: Callable[[Any], Any], is_sure: bool
) -> None:
    rows = COLUMNS[["n", "on"]]

    found = added(tmp_path, make_pipeline(own(function), LogisticRegression()), rows, inputs=("n:int64", "on:bool"))

    assert found.evidence is not None
    assert found.evidence.is_enough is is_sure
    assert ("a NULL in n, on changes what" in found.evidence.unsure) is not is_sure


def test_rows_that_are_all_alike_are_no_evidence(tmp_path: Path) -> None:
    takes_only_three = own(lambda x: np.where(x == 3.0, x, np.nan))
    model = make_pipeline(SimpleImputer(), takes_only_three, LogisticRegression())

    found = added(tmp_path, model, WHOLE * 0 + 3.0)

    assert found.evidence is not None
    assert not found.evidence.is_enough
    assert "all alike" in str(found.evidence)


HOURS = pd.Series(pd.date_range("2026-01-01", periods=120, freq="h"))
CITIES = pd.Series(["Oslo", "Ghent"] * 60)


@pytest.mark.parametrize(
    ("function", "column", "typed", "message"),
    [
        (lambda x: np.c_[x["a"].dt.hour, x["b"]], HOURS, "a:datetime64[us]", "--inputs a:datetime64[us]."),
        (lambda x: np.c_[x["a"].str.len(), x["b"]], CITIES, "a:string", "--inputs a:string."),
        (
            lambda x: np.c_[[each.upper() == "OSLO" for each in x["a"]], x["b"]],
            CITIES,
            "a:string",
            "--inputs a:string or --inputs a:datetime64[us] or --inputs a:int64.",
        ),
    ],
    ids=["times", "texts", "values"],
)
def test_own_code_that_wants_another_type_is_refused_with_what_to_type(
    tmp_path: Path, function: Callable[[Any], Any], column: Any, typed: str, message: str
) -> None:
    rows, model = WHOLE.assign(a=column), make_pipeline(own(function), LogisticRegression())

    with pytest.raises(StoreError, match=re.escape(message)):
        added(tmp_path, model, rows)

    assert added(tmp_path, model, rows, inputs=(typed, "b")).evidence is not None
