"""A model gets the columns that it was fitted on: their names, categories and dtypes, and NULL as it was there.

What it must predict is what the library itself predicts for the DataFrame.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from scorebeat.core.errors import SignatureError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.formats.sklearn.trusted import TRUSTED
from scorebeat.models.inputs.binding import bind
from scorebeat.models.inputs.sample_file import SampleFile
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract.format_cases import CASES

pytestmark = pytest.mark.wide(quick=80)

ROWS = 300
RNG = np.random.default_rng(5)
PEOPLE = pd.DataFrame(
    {
        "age": RNG.uniform(18, 90, ROWS).round(1),
        "income": RNG.lognormal(10, 0.5, ROWS),
        "grade": RNG.integers(0, 9, ROWS),
        "region": RNG.choice([30, 10, 20, 5], ROWS),
        "city": RNG.choice(["Oslo", "Ghent", "Lyon"], ROWS),
        "active": RNG.random(ROWS) < 0.5,
    }
)
NUMBERS = ["age", "income", "grade"]
WORDS = ["age", "city", "region"]
LEAVES = np.where((PEOPLE["region"].isin([10, 5])) ^ (PEOPLE["income"] / PEOPLE["age"] > 450), "yes", "no")
PICKLE = frozenset({"pickle"})


def pickled(folder: Path, model: Any, **options: Any) -> Artifact:
    (folder / "m.pkl").write_bytes(cloudpickle.dumps(model))
    return store.add(folder / "store", folder / "m.pkl", "m", AddOptions(code=PICKLE, **options))


def skopsed(folder: Path, model: Any, **options: Any) -> Artifact:
    skops.io.dump(model, folder / "m.skops")
    trusted = frozenset(skops.io.get_untrusted_types(file=folder / "m.skops"))
    return store.add(folder / "store", folder / "m.skops", "m", AddOptions(trusted=trusted - TRUSTED, **options))


def queried(frame: pd.DataFrame) -> pa.RecordBatch:
    """The rows as PostgreSQL returns them: no categories, NULL for missing values, the columns in another order."""
    columns = {}
    for name in reversed(frame.columns):
        values: list[Any] = [None if pd.isna(v) else v for v in frame[name].astype(object)]
        columns[name] = pa.array([v.item() if hasattr(v, "item") else v for v in values])
    return pa.RecordBatch.from_pydict(columns)


def scored(artifact: Artifact, rows: pa.RecordBatch) -> pa.RecordBatch:
    return score_rows.predict(registry.load(artifact), bind(artifact.signature, rows.schema).apply(rows))


def assert_same(artifact: Artifact, model: Any, frame: pd.DataFrame, rows: pa.RecordBatch | None = None) -> None:
    """The predictions of rows as PostgreSQL returns them are the library's own for the frame."""
    found = scored(artifact, queried(frame) if rows is None else rows)
    assert found.column(0).to_pylist() == pytest.approx(np.ravel(model.predict(frame)).tolist())
    if hasattr(model, "predict_proba"):
        assert np.column_stack(found.columns[1:]) == pytest.approx(model.predict_proba(frame))


def ratio(frame: Any) -> Any:
    return pd.DataFrame({"ratio": frame["income"] / (frame["age"] + 1), "grade": frame["grade"]})


def halved(x: Any) -> Any:
    return x / 2


CODES = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-2)


def logistic() -> Any:
    return LogisticRegression(max_iter=2_000)


# Names


ORDERS = [("income", "grade", "age"), ("grade:int64", "income", "age"), ("Income", "GRADE", "age")]


@pytest.mark.parametrize("inputs", ORDERS)
@pytest.mark.parametrize("add", [skopsed, pickled])
def test_names_in_another_order_than_in_training_are_matched_by_name(
    tmp_path: Path, add: Callable[..., Artifact], inputs: tuple[str, ...]
) -> None:
    model = make_pipeline(StandardScaler(), logistic()).fit(PEOPLE[NUMBERS], LEAVES)

    artifact = add(tmp_path, model, inputs=inputs)

    own = PEOPLE[NUMBERS].rename(columns={i.trained_name: i.name for i in artifact.signature.inputs})
    assert [i.trained_name for i in artifact.signature.inputs] == NUMBERS
    assert_same(artifact, model, PEOPLE[NUMBERS], queried(own))
    assert not artifact.notes


def boosted(library: str, folder: Path, suffix: str) -> tuple[Any, Path]:
    pytest.importorskip(library)
    options = {"lightgbm": {"verbose": -1}, "xgboost": {}}[library]
    kind = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier"}[library]
    frame = PEOPLE[NUMBERS].rename(columns={"income": "yearly income"})
    model = getattr(import_module(library), kind)(n_estimators=9, n_jobs=1, **options)
    model.fit(frame, (LEAVES == "yes").astype(int))
    getattr(model, "booster_", model).save_model(folder / f"m{suffix}")
    return model, folder / f"m{suffix}"


@pytest.mark.parametrize(
    ("library", "suffix"), [("xgboost", ".ubj"), ("xgboost", ".json"), ("lightgbm", ".txt"), ("lightgbm", ".lgb")]
)
def test_a_boosters_file_is_matched_by_its_names_though_it_wrote_them_otherwise(
    tmp_path: Path, library: str, suffix: str
) -> None:
    model, path = boosted(library, tmp_path, suffix)

    artifact = store.add(tmp_path / "store", path, "m", AddOptions(inputs=("yearly income", "grade", "age")))

    frame = PEOPLE[NUMBERS].rename(columns={"income": "yearly income"})
    found = scored(artifact, queried(frame))
    assert found["label"].to_pylist() == model.predict(frame).tolist()
    assert not artifact.notes


@pytest.mark.parametrize("title", ["onnx many inputs", "torch many inputs", "mlflow columns"])
def test_other_files_that_name_their_inputs_are_matched_by_name(tmp_path: Path, title: str) -> None:
    case = CASES[title]
    pytest.importorskip(case.needs or "onnxruntime")
    path, loop = case.write(tmp_path)
    plain = store.add(tmp_path / "store", path, "m", AddOptions(code=case.code))
    names = [i.name for i in plain.signature.inputs]

    turned = store.add(tmp_path / "store", path, "t", AddOptions(inputs=tuple(reversed(names)), code=case.code))
    renamed = store.add(tmp_path / "store", path, "r", AddOptions(inputs=("p", "q", "r", "s"), code=case.code))

    row = dict(zip(names, [5.1, 3.5, 1.4, 0.2], strict=True))
    expected = loop(np.array([[*row.values()]]))
    for artifact, columns in ((plain, row), (turned, row), (renamed, dict(zip("pqrs", row.values(), strict=True)))):
        found = scored(artifact, pa.RecordBatch.from_pylist([dict(reversed(columns.items()))])).to_pylist()[0]
        assert [*found.values()] == pytest.approx(expected)
    assert ([*turned.notes], len(renamed.notes)) == ([], 1)


def test_names_of_which_the_file_has_some_are_refused_with_both_lists(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), logistic()).fit(PEOPLE[NUMBERS], LEAVES)
    _, path = boosted("xgboost", tmp_path, ".ubj")
    adds: tuple[Callable[..., Artifact], ...] = (
        lambda **options: skopsed(tmp_path, model, **options),
        lambda **options: store.add(tmp_path / "store", path, "m", AddOptions(**options)),
    )

    for add in adds:
        with pytest.raises(StoreError, match=r"fitted on \[age, .*income, grade\]; --inputs \[age, salary, grade\]"):
            add(inputs=("age", "salary", "grade"))


def test_unknown_names_rename_by_position_and_that_is_reported(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), logistic()).fit(PEOPLE[NUMBERS], LEAVES)
    framed = make_pipeline(FunctionTransformer(ratio), logistic()).fit(PEOPLE[NUMBERS], LEAVES)

    for fitted in (model, framed):
        artifact = pickled(tmp_path, fitted, inputs=("a", "b", "c"))
        assert any("age is called a, income is called b, grade is called c" in note for note in artifact.notes)
        renamed = queried(PEOPLE[NUMBERS].set_axis(["a", "b", "c"], axis=1))
        assert_same(artifact, fitted, PEOPLE[NUMBERS], renamed)
        opened = store.open_artifact(tmp_path / "store", "m", artifact.version, artifact.digest)
        assert opened.signature == artifact.signature


def test_names_that_a_library_invented_are_replaced_without_a_word(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=9, verbose=-1).fit(PEOPLE[NUMBERS].to_numpy(), LEAVES)

    artifact = pickled(tmp_path, model, inputs=("age", "income", "grade"))

    assert not artifact.notes
    assert_same(artifact, model, PEOPLE[NUMBERS].to_numpy(), queried(PEOPLE[NUMBERS]))


# Categories


def of_categories() -> pd.DataFrame:
    """Categories of whole numbers and of texts, whose codes are not in the order of their values."""
    return PEOPLE[WORDS].assign(
        region=pd.Categorical(PEOPLE["region"], categories=[30, 5, 20, 10]),
        city=pd.Categorical(PEOPLE["city"], categories=["Oslo", "Ghent", "Lyon"]),
    )


def trees(library: str) -> Any:
    if library == "sklearn":
        return HistGradientBoostingClassifier(max_iter=9, categorical_features="from_dtype")
    module = pytest.importorskip(library)
    if library == "lightgbm":
        return module.LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1)
    if library == "catboost":
        return module.CatBoostClassifier(
            iterations=9, verbose=0, cat_features=["city", "region"], allow_writing_files=False, thread_count=1
        )
    return module.XGBClassifier(n_estimators=9, enable_categorical=True, n_jobs=1)


YES = (LEAVES == "yes").astype(int)


@pytest.mark.parametrize("add", [skopsed, pickled])
@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "sklearn"])
def test_trees_that_were_fitted_on_categories_get_them_with_their_codes(
    tmp_path: Path, library: str, add: Callable[..., Artifact]
) -> None:
    table = of_categories()
    alone, at_the_end = trees(library), make_pipeline("passthrough", trees(library))
    passed = ColumnTransformer(
        [("numbers", StandardScaler(), ["age"])], remainder="passthrough", verbose_feature_names_out=False
    )
    after = make_pipeline(passed.set_output(transform="pandas"), trees(library))

    for model in (alone, at_the_end, after):
        artifact = add(tmp_path, model.fit(table, YES), outputs=("yes", "p0", "p1"))
        assert sorted(map(str, artifact.signature.inputs)) == ["age float64", "city string", "region float64"]
        assert_same(artifact, model, table, queried(table))


def test_catboost_gets_the_texts_of_its_categories(tmp_path: Path) -> None:
    model = trees("catboost").fit(PEOPLE[WORDS], YES)

    for inputs in ((), ("region:int64",)):
        artifact = pickled(tmp_path, model, inputs=inputs)
        rows = PEOPLE[WORDS] if inputs else PEOPLE[WORDS].astype({"region": str})
        assert_same(artifact, model, PEOPLE[WORDS], queried(rows))


def test_catboost_gets_truth_values_as_in_training_by_the_option_that_is_named(tmp_path: Path) -> None:
    table = PEOPLE[["age", "city", "active"]]
    catboost = trees("catboost").set_params(cat_features=["city", "active"])
    model = catboost.fit(table, PEOPLE["active"].astype(int))

    with pytest.raises(SignatureError, match=r"bool cannot become string.*do not cast.*--inputs active:bool"):
        scored(pickled(tmp_path, model), queried(table))
    assert_same(pickled(tmp_path, model, inputs=("active:bool",)), model, table)


def test_a_category_that_training_did_not_have_is_what_the_library_makes_of_it(tmp_path: Path) -> None:
    table = of_categories().head(20)
    strange = table.assign(region=table["region"].cat.add_categories([99]), city=table["city"].astype(object))
    strange.loc[3, "region"], strange.loc[4, "city"], strange.loc[5, "city"] = 99, "Bern", None
    strange = strange.astype({"city": "category"})

    for library in ("lightgbm", "sklearn"):
        model = trees(library).fit(of_categories(), YES)
        artifact = pickled(tmp_path, model)
        assert_same(artifact, model, strange)
    model = trees("xgboost").fit(of_categories(), YES)
    strange["city"] = of_categories()["city"].head(20)
    with pytest.raises(Exception, match="category not in the training set") as own:
        model.predict(strange)
    with pytest.raises(type(own.value), match="category not in the training set"):
        scored(pickled(tmp_path, model), queried(strange))


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_a_boosters_own_file_keeps_the_categories_that_it_was_fitted_on(tmp_path: Path, library: str) -> None:
    table = of_categories()
    model = trees(library).fit(table, YES)
    for suffix in {"lightgbm": (".txt",), "xgboost": (".ubj", ".json")}[library]:
        getattr(model, "booster_", model).save_model(tmp_path / f"m{suffix}")

        artifact = store.add(
            tmp_path / "store", tmp_path / f"m{suffix}", "m", AddOptions(inputs=("region", "city", "age"))
        )

        found = scored(artifact, queried(table))
        assert found["label"].to_pylist() == model.predict(table).tolist()
        assert np.asarray(found["class_1"]) == pytest.approx(model.predict_proba(table)[:, 1], abs=1e-6)


@pytest.mark.parametrize("sample", ["none", "plain", "categories"])
@pytest.mark.parametrize("words", [["region"], ["city"]], ids=["numbers", "texts"])
@pytest.mark.parametrize(("library", "suffix"), [("lightgbm", ".txt"), ("xgboost", ".ubj")])
def test_a_boosters_own_file_is_compared_with_its_library_over_categories(
    tmp_path: Path, library: str, suffix: str, words: list[str], sample: str
) -> None:
    table = of_categories()[["age", *words]]
    model = trees(library).fit(table, YES)
    getattr(model, "booster_", model).save_model(tmp_path / f"m{suffix}")
    rows = {"plain": PEOPLE[table.columns], "categories": table}.get(sample)
    if rows is not None:
        rows.to_parquet(tmp_path / "rows.parquet")
    options = AddOptions(sample=None if rows is None else SampleFile(tmp_path / "rows.parquet"))

    artifact = store.add(tmp_path / "store", tmp_path / f"m{suffix}", "m", options)

    assert artifact.evidence is not None
    assert artifact.evidence.difference is not None
    assert np.asarray(scored(artifact, queried(table))["class_1"]) == pytest.approx(
        model.predict_proba(table)[:, 1], abs=1e-6
    )


@pytest.mark.parametrize("dtype", ["int32", "int16", "int8", "uint8"])
def test_xgboost_gets_whole_numbers_that_are_categories_in_the_width_of_training(tmp_path: Path, dtype: str) -> None:
    region = pd.Categorical(PEOPLE["region"], categories=pd.Index([30, 5, 20, 10], dtype=dtype))
    table = PEOPLE[["age"]].assign(region=region)
    model = trees("xgboost").fit(table, YES)
    model.save_model(tmp_path / "m.ubj")
    PEOPLE[["age", "region"]].to_parquet(tmp_path / "rows.parquet")
    sample = SampleFile(tmp_path / "rows.parquet")

    for artifact in (
        pickled(tmp_path, model, sample=sample),
        store.add(tmp_path / "store", tmp_path / "m.ubj", "own", AddOptions(inputs=("region", "age"), sample=sample)),
    ):
        opened = store.open_artifact(tmp_path / "store", artifact.name, artifact.version, artifact.digest)
        found = scored(opened, queried(table))
        assert np.asarray(found.columns[-1]) == pytest.approx(model.predict_proba(table)[:, 1], abs=1e-6)
        assert artifact.evidence is not None
        assert artifact.evidence.difference is not None


def test_categories_whose_values_the_file_does_not_keep_are_refused(tmp_path: Path) -> None:
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    codes = np.column_stack([PEOPLE["age"], of_categories()["region"].cat.codes])
    data = xgboost.DMatrix(codes, YES, feature_types=["float", "c"], enable_categorical=True)
    xgboost.train({}, data, 2).save_model(tmp_path / "m.ubj")
    ordered = of_categories().assign(region=of_categories()["region"].cat.as_ordered())
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(ordered, YES)

    with pytest.raises(StoreError, match=r"codes without their values.*XGBoost 3\.1"):
        store.add(tmp_path / "store", tmp_path / "m.ubj", "m")
    with pytest.raises(StoreError, match=r"keeps which columns they are of 1 only.*unordered"):
        pickled(tmp_path, model)


def test_a_type_that_the_categories_do_not_have_is_refused(tmp_path: Path) -> None:
    model = trees("lightgbm").fit(of_categories(), YES)

    with pytest.raises(
        StoreError, match=r"city is int64, but it was fitted on the categories 'Oslo'.*leave the type out"
    ):
        pickled(tmp_path, model, inputs=("city:int64",))


# A DataFrame where one was fitted


class Ratio(BaseEstimator, TransformerMixin):  # type: ignore[misc]  # scikit-learn publishes no types
    """A transformer as people write them: it keeps nothing of what it was fitted on."""

    def fit(self, x: Any, y: Any = None) -> Any:  # noqa: ARG002 -- scikit-learn's signature
        return self

    def transform(self, x: Any) -> Any:
        return np.column_stack([x["income"] / (x["age"] + 1), x["grade"]])


class First(Ratio):
    """The same for a matrix."""

    def transform(self, x: Any) -> Any:
        return x[:, :2] / 2


def by_type() -> Any:
    """Columns picked by their type, at predict() too."""
    return FunctionTransformer(lambda x: x.select_dtypes("number").assign(a=x["active"] * 1))


PIPELINES: dict[str, tuple[Any, list[str]]] = {
    "names in a function": (make_pipeline(FunctionTransformer(ratio), StandardScaler()), NUMBERS),
    "a function, then columns by position": (
        make_pipeline(FunctionTransformer(halved), ColumnTransformer([("a", StandardScaler(), [0, 2])])),
        NUMBERS,
    ),
    "a function, then columns by a slice": (
        make_pipeline(FunctionTransformer(ratio), ColumnTransformer([("a", StandardScaler(), slice(0, 2))])),
        NUMBERS,
    ),
    "a function, then the last column": (
        make_pipeline(FunctionTransformer(ratio), ColumnTransformer([("a", StandardScaler(), [-1])])),
        NUMBERS,
    ),
    "pandas between the steps": (
        make_pipeline(StandardScaler(), FunctionTransformer(ratio)).set_output(transform="pandas"),
        NUMBERS,
    ),
    "columns by type": (
        ColumnTransformer([("a", StandardScaler(), make_column_selector(dtype_include=np.number))]),
        ["age", "grade", "income"],
    ),
    "columns by a function": (
        ColumnTransformer([("a", StandardScaler(), lambda frame: [name for name in frame if name != "age"])]),
        NUMBERS,
    ),
    "a selection by type in a function": (by_type(), ["age", "income", "active"]),
}


@pytest.mark.parametrize("title", PIPELINES)
def test_a_model_that_was_fitted_on_a_dataframe_gets_one(tmp_path: Path, title: str) -> None:
    steps, names = PIPELINES[title]
    model = make_pipeline(clone(steps), logistic()).fit(PEOPLE[names], LEAVES)
    typed = tuple(f"{name}:bool" for name in names if name == "active")

    artifact = pickled(tmp_path, model, inputs=typed)

    assert_same(artifact, model, PEOPLE[names])


@pytest.mark.parametrize("first", [Ratio(), First()], ids=["frame", "matrix"])
def test_a_step_of_ones_own_that_knows_no_names_gets_what_it_can_read(tmp_path: Path, first: Any) -> None:
    own = PEOPLE[NUMBERS] if type(first) is Ratio else PEOPLE[NUMBERS].to_numpy()
    model = make_pipeline(first, StandardScaler(), logistic()).fit(own, LEAVES)

    artifact = pickled(tmp_path, model, inputs=("age", "income", "grade"))

    assert_same(artifact, model, own, queried(PEOPLE[NUMBERS]))


def as_words(frame: Any) -> Any:
    return frame.astype(str)


def test_whole_numbers_stay_whole_if_declared_and_the_type_is_required_if_it_counts(tmp_path: Path) -> None:
    words = make_pipeline(FunctionTransformer(as_words), OneHotEncoder(handle_unknown="ignore"), logistic())
    model = words.fit(PEOPLE[["grade", "region"]], LEAVES)

    typed = pickled(tmp_path, model, inputs=("grade:int64", "region:int64"))

    assert_same(typed, model, PEOPLE[["grade", "region"]])


def is_whole(frame: Any) -> Any:
    return frame.assign(**{name: frame[name] * (1 + (frame[name].dtype.kind == "i")) for name in frame})


def test_a_model_whose_code_reads_dtypes_is_a_doubt_until_types_are_declared(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(is_whole), logistic()).fit(PEOPLE[["grade", "region"]], LEAVES)

    plain = pickled(tmp_path, model)
    typed = pickled(tmp_path, model, inputs=("grade:int64", "region:int64"))

    assert plain.evidence is not None
    assert "--inputs grade:int64" in plain.evidence.unsure
    assert typed.evidence is not None
    assert typed.evidence.is_enough
    assert_same(typed, model, PEOPLE[["grade", "region"]])


def test_a_plain_model_of_numbers_is_fed_a_matrix(tmp_path: Path) -> None:
    plain = make_pipeline(SimpleImputer(), StandardScaler(), logistic()).fit(PEOPLE[NUMBERS], LEAVES)
    framed = make_pipeline(FunctionTransformer(ratio), logistic()).fit(PEOPLE[NUMBERS], LEAVES)

    assert pickled(tmp_path, plain).options["fed"] == "matrix"
    assert pickled(tmp_path, framed).options["fed"] == "frame"


# Estimators around a pipeline


def by_column() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [("numbers", numbers, ["age"]), ("words", OneHotEncoder(handle_unknown="ignore"), ["city", "region"])]
    )


def inner() -> Any:
    return make_pipeline(by_column(), logistic())


def frozen() -> Any:
    return FrozenEstimator(inner().fit(PEOPLE[WORDS], LEAVES))


AROUND: dict[str, Callable[[], Any]] = {
    "frozen": frozen,
    "calibrated, frozen": lambda: CalibratedClassifierCV(frozen()),
    "voting, soft": lambda: VotingClassifier([("a", inner()), ("b", inner())], voting="soft"),
    "voting of frozen": lambda: VotingClassifier([("a", frozen()), ("b", inner())], voting="soft"),
    "stacking": lambda: StackingClassifier([("a", inner()), ("b", inner())], cv=2),
    "search": lambda: GridSearchCV(inner(), {"logisticregression__C": [0.5, 1.0]}, cv=2),
    "search of a frozen step": lambda: GridSearchCV(
        make_pipeline(by_column(), logistic()), {"logisticregression__C": [1.0]}, cv=2
    ),
    "one against the rest": lambda: OneVsRestClassifier(inner()),
    "a tuned threshold": lambda: TunedThresholdClassifierCV(inner(), cv=2),
    "a fixed threshold": lambda: FixedThresholdClassifier(inner(), threshold=0.4),
    "a frozen transformer": lambda: make_pipeline(FrozenEstimator(by_column().fit(PEOPLE[WORDS])), logistic()),
}


@pytest.mark.parametrize("add", [skopsed, pickled])
@pytest.mark.parametrize("title", AROUND)
def test_an_estimator_around_a_pipeline_gets_the_pipelines_columns(
    tmp_path: Path, title: str, add: Callable[..., Artifact]
) -> None:
    y = (LEAVES == "yes").astype(int)
    model = AROUND[title]().fit(PEOPLE[WORDS], y if "threshold" in title else LEAVES)

    artifact = add(tmp_path, model)

    assert [*map(str, artifact.signature.inputs)] == ["age float64", "city string", "region float64"]
    assert_same(artifact, model, PEOPLE[WORDS])


def test_regressors_around_a_pipeline_get_its_columns(tmp_path: Path) -> None:
    regressor = make_pipeline(by_column(), LinearRegression())
    model = TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp)

    artifact = skopsed(tmp_path, model.fit(PEOPLE[WORDS], PEOPLE["income"]))

    assert_same(artifact, model, PEOPLE[WORDS])


def test_bagging_hands_its_pipelines_an_array_of_objects(tmp_path: Path) -> None:
    steps = ColumnTransformer([("words", OneHotEncoder(handle_unknown="ignore"), [1]), ("age", "passthrough", [0])])
    bagged = BaggingClassifier(make_pipeline(steps, DecisionTreeClassifier(max_depth=4)), n_estimators=3)
    model = bagged.fit(PEOPLE[WORDS], LEAVES)

    artifact = pickled(tmp_path, model, inputs=("city:string",))

    assert_same(artifact, model, PEOPLE[WORDS])


# NULL


def with_missing(column: pd.Series, missing: Any) -> pd.Series:
    values = column.astype(object).tolist()
    values[::7] = [missing] * len(values[::7])
    return pd.Series(values, dtype=object)


@pytest.mark.parametrize("missing", [None, np.nan], ids=["None", "NaN"])
@pytest.mark.parametrize("name", ["active", "city", "region"])
@pytest.mark.parametrize("encoder", [OneHotEncoder(handle_unknown="ignore"), CODES], ids=["hot", "codes"])
def test_null_in_truth_values_texts_and_numbers_is_what_it_was_in_training(
    tmp_path: Path, missing: Any, name: str, encoder: Any
) -> None:
    table = PEOPLE[["age", name]].assign(**{name: with_missing(PEOPLE[name], missing)})
    coded = ColumnTransformer([("codes", clone(encoder), [name])], remainder="passthrough")
    last = RandomForestClassifier(9, random_state=0)
    model = make_pipeline(coded, SimpleImputer(), last).fit(table, LEAVES)
    typed = {"active": ("active:bool",)}.get(name, ())

    for inputs in {typed, ()}:
        artifact = skopsed(tmp_path, model, inputs=inputs)
        assert_same(artifact, model, table)
        known = table.dropna().head(9)
        assert_same(artifact, model, known)


def test_each_column_has_its_own_missing_value(tmp_path: Path) -> None:
    table = PEOPLE[["age"]].assign(
        active=with_missing(PEOPLE["active"], None),
        city=with_missing(PEOPLE["city"], np.nan),
        region=with_missing(PEOPLE["region"], None),
    )
    imputed = make_pipeline(SimpleImputer(missing_values=np.nan, strategy="most_frequent"), OneHotEncoder())
    steps = [("a", OneHotEncoder(), ["active"]), ("b", imputed, ["city"]), ("c", CODES, ["region"])]
    model = make_pipeline(ColumnTransformer(steps), SimpleImputer(), logistic()).fit(table, LEAVES)

    artifact = skopsed(tmp_path, model)

    assert [i.trained.null for i in artifact.signature.inputs] == ["None", "NaN", "None"]
    assert_same(artifact, model, table)


def test_a_nullable_dtype_has_its_pandas_name(tmp_path: Path) -> None:
    table = PEOPLE[["age"]].assign(active=with_missing(PEOPLE["active"], None).astype("boolean"))
    seen = FunctionTransformer(
        lambda x: x.assign(active=x["active"].map({True: 1.0, False: 2.0, pd.NA: 7.0}).fillna(9))
    )
    model = make_pipeline(seen, logistic()).fit(table, LEAVES)

    artifact = pickled(tmp_path, model, inputs=("active:boolean",))

    assert artifact.signature.inputs[1].trained.dtype == "boolean"
    assert_same(artifact, model, table)


# Timestamps


def of_times(unit: str) -> pd.DataFrame:
    start = pd.Timestamp("2025-01-01")
    at = (start + pd.to_timedelta(np.arange(ROWS) * 7, unit="h")).astype(f"datetime64[{unit}]")
    return PEOPLE[["age"]].assign(at=at)


def since_epoch(frame: Any) -> Any:
    return frame.assign(at=frame["at"].astype("int64"))


def hour(frame: Any) -> Any:
    return frame.assign(at=frame["at"].dt.hour)


AFTERNOON = np.where(of_times("us")["at"] > pd.Timestamp("2025-02-15"), "yes", "no")


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
def test_timestamps_arrive_in_the_unit_that_was_set(tmp_path: Path, unit: str) -> None:
    model = make_pipeline(FunctionTransformer(since_epoch), DecisionTreeClassifier(max_depth=3))
    model.fit(of_times(unit), AFTERNOON)

    with pytest.raises(StoreError, match=r"does not say whether at had datetime64\[ns\].*--inputs at:datetime64\[ns\]"):
        pickled(tmp_path, model, inputs=("at:timestamp[us]",))
    artifact = pickled(tmp_path, model, inputs=(f"at:datetime64[{unit}]",))

    assert_same(artifact, model, of_times(unit))


def test_the_unit_is_not_required_if_it_changes_nothing(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(hour), logistic()).fit(of_times("ns"), LEAVES)

    assert_same(pickled(tmp_path, model, inputs=("at:timestamp[us]",)), model, of_times("ns"))


def test_a_zone_of_training_has_its_pandas_name(tmp_path: Path) -> None:
    table = of_times("us").assign(at=of_times("us")["at"].dt.tz_localize("UTC").dt.tz_convert("Europe/Paris"))
    model = make_pipeline(FunctionTransformer(hour), DecisionTreeClassifier(max_depth=6)).fit(table, LEAVES)

    artifact = pickled(tmp_path, model, inputs=("at:datetime64[us, Europe/Paris]",))

    rows = pa.record_batch({"age": table["age"].tolist(), "at": pa.array(table["at"].dt.tz_convert("UTC"))})
    assert_same(artifact, model, table, rows)


def test_an_encoder_of_timestamps_has_their_dtype(tmp_path: Path) -> None:
    table = of_times("ns").assign(at=of_times("ns")["at"].dt.normalize())
    coded = ColumnTransformer([("at", OneHotEncoder(handle_unknown="ignore"), ["at"])], remainder="passthrough")
    model = make_pipeline(coded, logistic()).fit(table, LEAVES)

    artifact = skopsed(tmp_path, model)

    assert [(str(i), i.trained.dtype) for i in artifact.signature.inputs] == [
        ("age float64", ""),
        ("at timestamp[us]", "datetime64[ns]"),
    ]
    assert_same(artifact, model, table)


# What was stored before


def test_a_version_that_was_stored_before_still_gets_null_as_its_model_knows_it(tmp_path: Path) -> None:
    table = PEOPLE[["age"]].assign(city=with_missing(PEOPLE["city"], None))
    coded = ColumnTransformer([("city", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough")
    model = make_pipeline(coded, logistic()).fit(table, LEAVES)
    artifact = skopsed(tmp_path, model)
    manifest = artifact.folder / "model.toml"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('null = "None"\n', ""))

    before = Artifact.read(artifact.folder, "m", 1, artifact.digest)

    assert before.signature.inputs[1].trained.null == ""
    assert_same(before, model, table)


def test_joblib_files_are_bound_as_pickles_are(tmp_path: Path) -> None:
    model = trees("lightgbm").fit(of_categories(), YES)
    joblib.dump(model, tmp_path / "m.joblib", compress=3)

    artifact = store.add(tmp_path / "store", tmp_path / "m.joblib", "m", AddOptions(code=PICKLE))

    assert_same(artifact, model, of_categories())


class Secretive(BaseEstimator, TransformerMixin):  # type: ignore[misc]  # scikit-learn publishes no types
    """Its attributes are not what scikit-learn's are, or raise."""

    @property
    def feature_names_in_(self) -> Any:
        raise RuntimeError("not for you")

    @property
    def transformers_(self) -> Any:
        return 7

    @property
    def categories_(self) -> Any:
        return 7

    def fit(self, x: Any, y: Any = None) -> Any:  # noqa: ARG002 -- scikit-learn's signature
        return self

    def transform(self, x: Any) -> Any:
        return np.asarray(x) / 2


@pytest.mark.parametrize("around", [lambda m: m, FrozenEstimator], ids=["alone", "frozen"])
def test_a_model_that_cannot_be_looked_into_is_tried(tmp_path: Path, around: Any) -> None:
    inside = make_pipeline(Secretive(), StandardScaler(), logistic()).fit(PEOPLE[NUMBERS].to_numpy(), LEAVES)
    model = around(inside)

    artifact = pickled(tmp_path, model, inputs=("age", "income", "grade"))

    assert_same(artifact, model, PEOPLE[NUMBERS].to_numpy(), queried(PEOPLE[NUMBERS]))


# A constant for missing values


def filled(*names: str, fill: Any = "missing", codes: Any = None) -> Any:
    steps = make_pipeline(SimpleImputer(strategy="constant", fill_value=fill), codes or UNSEEN)
    return ColumnTransformer([("words", steps, [*names])])


UNSEEN = OneHotEncoder(handle_unknown="ignore")
FILLED: dict[str, tuple[Any, list[str], list[str]]] = {
    "numbers": (filled("region", "city"), ["region float64", "city string"], []),
    "truth values": (filled("active", "city"), ["active bool", "city string"], []),
    "all": (filled("region", "city", "active"), ["region float64", "city string", "active bool"], []),
    "codes": (filled("region", "city", codes=CODES), ["region float64", "city string"], ["city"]),
    "a number": (filled("region", "city", fill=0), ["region float64", "city string"], ["region"]),
    "in front": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value="missing"), UNSEEN),
        ["region float64", "city string"],
        ["city"],
    ),
    "in front of columns": (
        make_pipeline(
            SimpleImputer(strategy="constant", fill_value="missing"),
            ColumnTransformer([("codes", CODES, [1]), ("words", UNSEEN, [0])]),
        ),
        ["region float64", "city string"],
        [],
    ),
}


@pytest.mark.parametrize("title", FILLED)
def test_a_constant_for_missing_values_does_not_determine_its_columns_types(tmp_path: Path, title: str) -> None:
    steps, expected, missing = FILLED[title]
    table = PEOPLE[[field.split()[0] for field in expected]]
    table = table.assign(**{name: with_missing(table[name], np.nan) for name in missing})
    model = make_pipeline(clone(steps), logistic()).fit(table, LEAVES)

    plain = pickled(tmp_path, model)
    typed = pickled(tmp_path, model, inputs=tuple(f.replace(" float64", ":int64").split()[0] for f in expected))

    assert [*map(str, plain.signature.inputs)] == expected
    for artifact in (plain, typed):
        assert_same(artifact, model, table)


def test_numbers_behind_a_constant_of_text_cannot_be_added_as_text(tmp_path: Path) -> None:
    model = make_pipeline(filled("region", "city"), logistic()).fit(PEOPLE[["region", "city"]], LEAVES)

    with pytest.raises(StoreError, match=r"region is text, but it was fitted on float64 there, such as 5"):
        pickled(tmp_path, model, inputs=("region:string",))


# Columns that an inner model does not use


def of_two() -> Any:
    return make_pipeline(ColumnTransformer([("numbers", StandardScaler(), ["age", "income"])]), logistic())


class Rule(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """A rule over a column that the model inside never sees."""

    def fit(self, x: Any, y: Any) -> Any:
        self.feature_names_in_ = np.array(x.columns, dtype=object)
        self.n_features_in_ = x.shape[1]
        self.estimator_ = of_two().fit(x, y)
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, x: Any) -> Any:
        return np.where(x.get("grade", 0) > 6, "yes", self.estimator_.predict(x))


class RuledPipeline(Pipeline):  # type: ignore[misc]  # scikit-learn publishes no types
    """A pipeline with such a rule."""

    def predict(self, x: Any) -> Any:
        return np.where(x.get("grade", 0) > 6, "yes", super().predict(x))


READS_ALL: dict[str, Any] = {
    "a rule": Rule(),
    "a rule in a search": GridSearchCV(Rule(), {}, cv=2),
    "a pipeline with a rule": RuledPipeline(of_two().steps),
    "stacking": StackingClassifier([("a", of_two())], DecisionTreeClassifier(max_depth=4), cv=2, passthrough=True),
}


@pytest.mark.parametrize("title", READS_ALL)
def test_a_column_that_an_inner_model_drops_is_kept_where_others_may_read_it(tmp_path: Path, title: str) -> None:
    model = clone(READS_ALL[title]).fit(PEOPLE[NUMBERS], LEAVES)

    artifact = pickled(tmp_path, model)

    assert [i.name for i in artifact.signature.inputs] == NUMBERS
    assert_same(artifact, model, PEOPLE[NUMBERS])


# A predict() of one's own


class Cautious(Pipeline):  # type: ignore[misc]  # scikit-learn publishes no types
    """A pipeline with a threshold."""

    def predict(self, x: Any) -> Any:
        return np.where(self.predict_proba(x)[:, 1] > 0.7, "yes", "no")


def patched(model: Any, part: Any = None) -> Any:
    """The model, with a predict() on the object, or on the part of it, that has a threshold."""
    part = model if part is None else part
    part.predict = MethodType(lambda self, x: np.where(self.predict_proba(x)[:, 1] > 0.7, "yes", "no"), part)
    return model


def fitted(model: Any) -> Any:
    return model.fit(PEOPLE[NUMBERS], LEAVES)


def patched_step() -> Any:
    model = fitted(make_pipeline(StandardScaler(), logistic()))
    return patched(model, model.steps[-1][1])


OWN_PREDICT: dict[str, Callable[[], Any]] = {
    "a pipeline": lambda: fitted(Cautious([("scale", StandardScaler()), ("last", logistic())])),
    "a pipeline in a search": lambda: fitted(
        GridSearchCV(Cautious([("scale", StandardScaler()), ("last", logistic())]), {}, cv=2)
    ),
    "on an object": lambda: patched(fitted(logistic())),
    "on a pipeline": lambda: patched(fitted(make_pipeline(StandardScaler(), logistic()))),
    "on a last step": patched_step,
}


@pytest.mark.parametrize("title", OWN_PREDICT)
def test_a_label_is_what_a_predict_of_ones_own_returns(tmp_path: Path, title: str) -> None:
    model = OWN_PREDICT[title]()

    assert_same(pickled(tmp_path, model), model, PEOPLE[NUMBERS])


class Plain:
    """A model that is made from no class of scikit-learn's."""

    def fit(self, x: Any, y: Any) -> Any:
        self.inside = make_pipeline(StandardScaler(), logistic()).fit(x, y)
        self.classes_, self.n_features_in_ = self.inside.classes_, x.shape[1]
        return self

    def predict(self, x: Any) -> Any:
        return self.inside.predict(x)


def test_a_class_with_fit_and_predict_alone_is_taken_as_it_is(tmp_path: Path) -> None:
    model = Plain().fit(PEOPLE[NUMBERS].to_numpy(), LEAVES)

    artifact = pickled(tmp_path, model, inputs=tuple(NUMBERS))

    assert_same(artifact, model, PEOPLE[NUMBERS].to_numpy(), queried(PEOPLE[NUMBERS]))


def times(frame: Any, k: int) -> Any:
    return ratio(frame) * k


def digits(value: Any) -> float:
    return float(len(str(value)))


WITHIN: dict[str, Any] = {
    "partial": partial(times, k=2),
    "partial of a partial": partial(partial(times), k=2),
    "vectorize": np.vectorize(digits),
    "partial of vectorize": partial(np.vectorize(digits)),
}


@pytest.mark.parametrize("title", WITHIN)
def test_a_function_within_another_gets_what_it_had_in_training(tmp_path: Path, title: str) -> None:
    model = fitted(make_pipeline(FunctionTransformer(WITHIN[title]), StandardScaler(), DecisionTreeClassifier()))

    artifact = pickled(tmp_path, model, inputs=("age", "income", "grade:int64"))

    assert artifact.options["fed"] == "frame"
    assert_same(artifact, model, PEOPLE[NUMBERS])


def test_numpys_own_functions_are_no_code_of_ones_own(tmp_path: Path) -> None:
    for function in (np.log1p, np.abs, partial(np.clip, a_min=0, a_max=50), np.sqrt):
        model = fitted(make_pipeline(FunctionTransformer(function), StandardScaler(), logistic()))
        assert pickled(tmp_path, model).options["fed"] == "matrix"
