"""A scikit-learn model is fed what it was fitted on: columns by name, texts, and NULL as it was in training."""

import functools
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from scorebeat.core.errors import InputError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store

TABLE = pd.DataFrame(
    {
        "number": range(40),
        "age": [30.0, 41.0, np.nan, 65.0] * 10,
        "city": ["Ghent", "Lyon", "Oslo", None] * 10,
        "visits": [1, 5, 2, 9, 4] * 8,
    }
).astype({"city": object})
STAYS = np.array(["no", "yes", "yes", "no", "yes"] * 8)
TEXTS = ["a good thing", "bad, really bad"] * 20


def by_name(words: Any, **options: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer([("numbers", numbers, ["age", "visits"]), ("words", words, ["city"])], **options)


def added(folder: Path, model: Any, **options: Any) -> Artifact:
    skops.io.dump(model, folder / "m.skops")
    return store.add(folder / "store", folder / "m.skops", "m", AddOptions(**options))


def scored(artifact: Artifact, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    batch = pa.RecordBatch.from_pylist(rows, schema=artifact.signature.columns)
    found: list[dict[str, Any]] = score_rows.predict(registry.load(artifact), batch).to_pylist()
    return found


def wanted(artifact: Artifact) -> list[str]:
    return [*map(str, artifact.signature.inputs)]


@pytest.mark.wide
def test_columns_have_the_names_and_types_of_training_without_dropped_ones(tmp_path: Path) -> None:
    plain = make_pipeline(by_name(OneHotEncoder(handle_unknown="ignore")), RandomForestClassifier(3, random_state=0))
    search = GridSearchCV(CalibratedClassifierCV(plain, cv=2), {"ensemble": [True]}, cv=2)

    for model in (plain, search):
        artifact = added(tmp_path, model.fit(TABLE, STAYS))
        assert wanted(artifact) == ["age float64", "city string", "visits float64"]
        found = scored(artifact, [{"age": 41.0, "city": "Oslo", "visits": 5.0}])
        expected = model.predict_proba(pd.DataFrame({"age": [41.0], "city": ["Oslo"], "visits": [5]}))[0]
        assert [found[0]["no"], found[0]["yes"]] == pytest.approx(expected)


def test_a_column_that_is_kept_is_required_and_may_have_a_declared_type(tmp_path: Path) -> None:
    model = make_pipeline(by_name(OneHotEncoder(), remainder="passthrough"), LogisticRegression(max_iter=1000))

    artifact = added(tmp_path, model.fit(TABLE, STAYS), inputs=("number:int64", "city"))

    assert wanted(artifact) == ["number int64", "age float64", "city string", "visits float64"]


@pytest.mark.wide(quick=4)
@pytest.mark.parametrize("absent", [None, np.nan])
@pytest.mark.parametrize("words", [OneHotEncoder(), SimpleImputer(strategy="most_frequent")], ids=["known", "imputed"])
def test_null_is_what_it_was_in_training(tmp_path: Path, absent: Any, words: Any) -> None:
    words = words if isinstance(words, OneHotEncoder) else words.set_params(missing_values=absent)
    steps = make_pipeline(words, OneHotEncoder()) if isinstance(words, SimpleImputer) else words
    table = TABLE.assign(city=pd.Series([absent if pd.isna(c) else c for c in TABLE["city"]], dtype=object))
    model = make_pipeline(by_name(steps), LogisticRegression()).fit(table, STAYS)
    row = pd.DataFrame({"age": [np.nan], "city": pd.Series([absent], dtype=object), "visits": [3]})

    found = scored(added(tmp_path, model), [{"age": None, "city": None, "visits": 3.0}])

    assert [found[0]["no"], found[0]["yes"]] == pytest.approx(model.predict_proba(row)[0])


def test_a_null_that_no_column_had_in_training_is_refused_by_name(tmp_path: Path) -> None:
    words = ColumnTransformer([("words", TfidfVectorizer(), "review"), ("number", StandardScaler(), ["visits"])])
    model = make_pipeline(words, LogisticRegression()).fit(TABLE.assign(review=TEXTS), STAYS)

    artifact = added(tmp_path, model)

    assert wanted(artifact) == ["visits float64", "review string"]
    with pytest.raises(InputError, match="review has 1 NULL"):
        scored(artifact, [{"review": "good", "visits": 1.0}, {"review": None, "visits": 1.0}])


def test_a_selection_by_type_is_what_it_was_in_training(tmp_path: Path) -> None:
    numbers = (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include=np.number))
    others = (OneHotEncoder(), make_column_selector(dtype_exclude=np.number))
    model = make_pipeline(ColumnTransformer([("a", *numbers), ("b", *others)]), LogisticRegression())

    artifact = added(tmp_path, model.fit(TABLE, STAYS))

    assert wanted(artifact) == ["number float64", "age float64", "city string", "visits float64"]


def test_a_label_of_named_columns_equals_predicts_if_rounding_ties_probabilities(tmp_path: Path) -> None:
    known = pd.DataFrame({"a": [-1.0, 1.0]})
    model = make_pipeline(ColumnTransformer([("a", "passthrough", ["a"])]), LogisticRegression())
    model.fit(known, ["no", "yes"])
    last = model[-1]
    tied = [float(score - last.intercept_[0] / last.coef_[0, 0]) for score in (0.0, 1e-17, -1e-17, 1e-3)]

    found = scored(added(tmp_path, model), [{"a": value} for value in tied])

    assert [row["label"] for row in found] == model.predict(pd.DataFrame({"a": tied})).tolist()


def test_columns_that_were_fitted_without_names_need_names(tmp_path: Path) -> None:
    steps = ColumnTransformer([("words", OneHotEncoder(), [0]), ("numbers", StandardScaler(), [1])])
    values = TABLE[["city", "visits"]].fillna({"city": "Bern"}).to_numpy()
    model = make_pipeline(steps, LogisticRegression()).fit(values, STAYS)

    with pytest.raises(StoreError, match="--inputs age:float64,city:string"):
        added(tmp_path, model)
    artifact = added(tmp_path, model, inputs=("city:string", "visits"))

    found = scored(artifact, [{"city": "Lyon", "visits": 5.0}])
    assert found[0]["yes"] == pytest.approx(model.predict_proba(np.array([["Lyon", 5]], dtype=object))[0, 1])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("place:string",), "fitted on the columns age, city, visits, but --inputs names 'place'"),
        (("age", "city", "visits", "age"), "age more than once"),
        (("age:float64[3]",), "columns, not arrays"),
        (("age:money",), "unknown type 'money'"),
    ],
)
def test_inputs_that_the_model_does_not_have_are_refused(tmp_path: Path, inputs: tuple[str, ...], message: str) -> None:
    model = make_pipeline(by_name(OneHotEncoder()), LogisticRegression()).fit(TABLE, STAYS)

    with pytest.raises(StoreError, match=message):
        added(tmp_path, model, inputs=inputs)


@pytest.mark.parametrize(
    "vectorizer",
    [CountVectorizer(), TfidfVectorizer(), HashingVectorizer(n_features=64, alternate_sign=False)],
    ids=lambda v: type(v).__name__,
)
def test_a_vectorizer_reads_one_text_a_row(tmp_path: Path, vectorizer: Any) -> None:
    model = make_pipeline(vectorizer, MultinomialNB()).fit(TEXTS, STAYS)

    named, plain = added(tmp_path, model, inputs=("review",)), added(tmp_path, model)

    assert (wanted(named), wanted(plain)) == (["review string"], ["text string"])
    texts = ["good and bad", "", "Zoë", "bad " * 20_000]
    found = scored(plain, [{"text": text} for text in texts])
    assert [row["yes"] for row in found] == pytest.approx(model.predict_proba(texts)[:, 1])
    with pytest.raises(InputError, match="review has 1 NULL"):
        scored(named, [{"review": None}])


def test_texts_reach_a_union_within_a_search(tmp_path: Path) -> None:
    union = make_union(TfidfVectorizer(), CountVectorizer(analyzer="char"))
    search = GridSearchCV(
        make_pipeline("passthrough", union, LinearRegression()), {"linearregression": [LinearRegression()]}
    )

    artifact = added(tmp_path, search.fit(TEXTS, np.arange(40.0)))

    assert wanted(artifact) == ["text string"]
    assert scored(artifact, [{"text": "good"}])[0]["value"] == pytest.approx(search.predict(["good"])[0])


@pytest.mark.parametrize("inputs", [("a", "b"), ("review:int64",), ("review:string[2]",)])
def test_a_model_of_texts_takes_one_name(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    model = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(TEXTS, STAYS)

    with pytest.raises(StoreError, match="reads one text a row"):
        added(tmp_path, model, inputs=inputs)


def test_without_pandas_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_pipeline(by_name(OneHotEncoder()), LogisticRegression()).fit(TABLE, STAYS)
    monkeypatch.delitem(sys.modules, "scorebeat.models.formats.shared.frame", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(StoreError, match=r"needs the package pandas.*scorebeat\[pandas\]"):
        added(tmp_path, model)


def doubled(x: Any) -> Any:
    return x * 2


DOUBLED = f"{__name__}.doubled"


def test_a_type_that_is_not_trusted_is_named_and_may_be_trusted_by_that_name(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(doubled), LogisticRegression()).fit(TABLE[["visits"]], STAYS)

    with pytest.raises(StoreError, match=f"not trusted.*{DOUBLED}.*--trust {DOUBLED}"):
        added(tmp_path, model)
    with pytest.raises(StoreError, match=r"m\.skops needs no trust in not\.in\.it: .*Leave that --trust out"):
        added(tmp_path, model, trusted=frozenset({DOUBLED, "not.in.it"}))
    trusted = added(tmp_path, model, trusted=frozenset({DOUBLED}))

    assert trusted.options["trusted"] == [DOUBLED]
    opened = store.open_artifact(tmp_path / "store", "m", 1, trusted.digest)
    assert scored(opened, [{"visits": 9.0}])[0]["yes"] == pytest.approx(
        model.predict_proba(pd.DataFrame({"visits": [9.0]}))[0, 1]
    )


def test_boosting_of_another_library_in_a_pipeline_is_used_once_it_is_trusted(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    model = make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1))
    model.fit(TABLE[["number", "visits"]], STAYS)

    with pytest.raises(StoreError, match=r"--trust lightgbm\.sklearn\.LGBMClassifier") as refused:
        added(tmp_path, model)
    types = frozenset(re.findall(r"--trust (\S+?)[;\s]", str(refused.value)))

    found = scored(added(tmp_path, model, trusted=types), [{"number": 3.0, "visits": 4.0}])
    expected = model.predict_proba(pd.DataFrame({"number": [3.0], "visits": [4.0]}))
    assert found[0]["yes"] == pytest.approx(expected[0, 1])


def test_the_functions_that_a_partial_calls_must_be_trusted_themselves(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(TABLE[["visits"]], STAYS)
    model.steps[0][1].func = functools.partial(os.system, "exit 3")

    with pytest.raises(StoreError, match=r"not trusted.*posix\.system"):
        added(tmp_path, model)
