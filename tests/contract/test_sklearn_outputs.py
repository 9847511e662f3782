"""The outputs of a fitted model are those that its methods return: the library's own result is what is stored."""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import skops.io
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from scorebeat.core.errors import OutputError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.formats.sklearn.models import ready
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.store import store

FOUR = ("a", "b", "c", "d")
X = np.random.default_rng(0).normal(size=(90, 4))
TAGS = (X[:, :3] > 0).astype(int)
WORDS = np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])]
PAIRS = np.column_stack([WORDS, np.where(X[:, 1] > 0, "yes", "no")])
ROWS = pa.RecordBatch.from_arrays([pa.array(column) for column in X.T], names=list(FOUR))
TEXTS = [f"word{n % 7} word{n % 3}" for n in range(90)]


def added(folder: Path, model: Any, inputs: tuple[str, ...] = FOUR, outputs: tuple[str, ...] = ()) -> Artifact:
    path = folder / "m.pkl"
    path.write_bytes(cloudpickle.dumps(model))
    return store.add(folder / "store", path, "m", AddOptions(inputs, outputs, code=frozenset({"pickle"})))


def scored(artifact: Artifact, rows: pa.RecordBatch = ROWS) -> dict[str, Any]:
    """The predictions of 90 rows, by micro-batches as a batch has them."""
    bound = bind(artifact.signature, rows.schema).apply(rows)
    found: dict[str, Any] = MicroBatches(registry.load(artifact), 40).predict(bound).to_pydict()
    return found


ONE_ARRAY = [f"label_{n}_probability" for n in range(3)]
AN_ARRAY_A_LABEL = [f"label_{n}_class_{c}" for n in range(3) for c in range(2)]
SEVERAL: dict[str, tuple[Any, Any, list[str]]] = {
    "network": (MLPClassifier((4,), max_iter=20, random_state=0), TAGS, ONE_ARRAY),
    "one against the rest": (OneVsRestClassifier(LogisticRegression()), TAGS, ONE_ARRAY),
    "one against the rest, sparse": (
        OneVsRestClassifier(LogisticRegression()),
        scipy.sparse.csr_matrix(TAGS),
        ONE_ARRAY,
    ),
    "chain": (ClassifierChain(LogisticRegression()), TAGS, ONE_ARRAY),
    "one model an output": (MultiOutputClassifier(LogisticRegression()), TAGS, AN_ARRAY_A_LABEL),
    "without probabilities": (MultiOutputClassifier(LinearSVC()), TAGS, []),
    "forest": (RandomForestClassifier(5, random_state=0), TAGS, AN_ARRAY_A_LABEL),
    "neighbours in a pipeline": (make_pipeline(StandardScaler(), KNeighborsClassifier()), TAGS, AN_ARRAY_A_LABEL),
    "forest of words": (
        RandomForestClassifier(5, random_state=0),
        PAIRS,
        ["label_0_high", "label_0_low", "label_0_mid", "label_1_no", "label_1_yes"],
    ),
}  # fmt: skip


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("case", SEVERAL)
def test_a_classifier_of_several_labels_has_a_column_a_label(tmp_path: Path, case: str) -> None:
    model, y, probabilities = SEVERAL[case]
    fitted = model.fit(X, y)
    labels = fitted.predict(X)
    labels = labels.toarray() if scipy.sparse.issparse(labels) else labels

    found = scored(added(tmp_path, fitted))

    names = [f"label_{n}" for n in range(labels.shape[1])]
    assert list(found) == names + probabilities
    assert [found[name] for name in names] == labels.T.tolist()
    if probabilities:
        wanted = fitted.predict_proba(X)
        wanted = np.hstack(wanted) if isinstance(wanted, list) else wanted
        np.testing.assert_allclose(np.column_stack([found[name] for name in probabilities]), wanted, rtol=1e-12)


def test_labels_have_the_names_of_the_option(tmp_path: Path) -> None:
    fitted = MLPClassifier((4,), max_iter=20, random_state=0).fit(X, TAGS)

    some = added(tmp_path, fitted, outputs=("red", "green", "blue")).signature.outputs.names
    every = added(tmp_path, fitted, outputs=tuple("uvwxyz")).signature.outputs.names

    assert some == ["red", "green", "blue", "red_probability", "green_probability", "blue_probability"]
    assert every == list("uvwxyz")
    with pytest.raises(StoreError, match="returns 6 columns"):
        added(tmp_path, fitted, outputs=("red", "green"))


def test_tags_of_texts_have_a_column_a_tag(tmp_path: Path) -> None:
    tags = MultiLabelBinarizer().fit_transform([{n % 7, n % 3} for n in range(90)])
    fitted = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression())).fit(TEXTS, tags)
    skops.io.dump(fitted, tmp_path / "m.skops")
    artifact = store.add(tmp_path / "store", tmp_path / "m.skops", "m")

    found = scored(artifact, pa.record_batch({"text": TEXTS}))

    assert [found[f"label_{n}"] for n in range(7)] == fitted.predict(TEXTS).T.tolist()
    np.testing.assert_allclose(found["label_3_probability"], fitted.predict_proba(TEXTS)[:, 3])


DETECTORS = [
    IsolationForest(n_estimators=5, random_state=0),
    OneClassSVM(),
    LocalOutlierFactor(novelty=True),
    make_pipeline(StandardScaler(), OneClassSVM()),
]


@pytest.mark.parametrize("model", DETECTORS, ids=lambda model: type(model).__name__)
def test_an_outlier_detector_has_its_label_and_its_score(tmp_path: Path, model: Any) -> None:
    fitted = model.fit(X)

    found = scored(added(tmp_path, fitted))

    assert list(found) == ["label", "score"]
    assert found["label"] == fitted.predict(X).tolist()
    np.testing.assert_allclose(found["score"], fitted.score_samples(X), rtol=1e-9)


EMBEDDERS = {
    "components": (PCA(2), X, FOUR, ROWS),
    "a pipeline": (make_pipeline(StandardScaler(), PCA(3)), X, FOUR, ROWS),
    "texts": (
        make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0)),
        TEXTS,
        (),
        pa.record_batch({"text": TEXTS}),
    ),
    "sparse": (TfidfVectorizer(), TEXTS, (), pa.record_batch({"text": TEXTS})),
}  # fmt: skip


@pytest.mark.parametrize("case", EMBEDDERS)
def test_a_transformer_without_predict_returns_an_embedding(tmp_path: Path, case: str) -> None:
    model, x, inputs, rows = EMBEDDERS[case]
    fitted = model.fit(x)
    wanted = fitted.transform(x)

    found = scored(added(tmp_path, fitted, inputs), rows)

    assert list(found) == ["embedding"]
    wanted = wanted.toarray() if scipy.sparse.issparse(wanted) else wanted
    np.testing.assert_allclose(np.array(found["embedding"]), wanted, rtol=1e-9, atol=1e-12)


def test_a_ranker_returns_its_scores(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    pytest.importorskip("lightgbm")
    from lightgbm import LGBMRanker  # noqa: PLC0415 -- it may be absent
    from xgboost import XGBRanker  # noqa: PLC0415 -- as above

    groups, marks = np.repeat(range(9), 10), np.arange(90) % 3
    for fitted in (
        XGBRanker(n_estimators=3).fit(X, marks, qid=groups),
        LGBMRanker(n_estimators=3, verbose=-1, min_child_samples=2).fit(X, marks, group=[10] * 9),
    ):
        assert scored(added(tmp_path, fitted)) == {"value": fitted.predict(X).astype(float).tolist()}


def test_catboost_has_the_outputs_that_it_returns(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost")
    some: dict[str, Any] = {"iterations": 5, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    words = catboost.CatBoostClassifier(**some).fit(X, WORDS)
    truths = catboost.CatBoostClassifier(**some).fit(X, X[:, 0] > 0)
    tags = catboost.CatBoostClassifier(loss_function="MultiLogloss", **some).fit(X, TAGS)
    ranker = catboost.CatBoostRanker(**some).fit(X, np.arange(90) % 3, group_id=np.repeat(range(9), 10))
    pair = catboost.CatBoostRegressor(loss_function="MultiRMSE", **some).fit(X, X[:, :2])

    found = scored(added(tmp_path, words))
    assert found["label"] == words.predict(X)[:, 0].tolist()
    np.testing.assert_allclose(found["mid"], words.predict_proba(X)[:, 2])
    assert scored(added(tmp_path, truths))["label"] == truths.predict(X).tolist()
    assert [scored(added(tmp_path, tags))[f"label_{n}"] for n in range(3)] == tags.predict(X).T.tolist()
    assert scored(added(tmp_path, ranker)) == {"value": ranker.predict(X).tolist()}
    assert scored(added(tmp_path, pair))["value_1"] == pair.predict(X)[:, 1].tolist()


class Own(BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """An estimator of somebody's own, which declares no kind."""

    def __init__(self, output: Callable[[Any], Any]) -> None:
        self.output = output

    def fit(self, x: Any, y: Any = None) -> "Own":
        del y
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x: Any) -> Any:
        return self.output(x)


class OwnRegressor(RegressorMixin, Own):  # type: ignore[misc]  # as above
    """The same, which declares that it is a regressor."""


class Plain:
    """No estimator of scikit-learn's kind at all."""

    def predict(self, x: Any) -> Any:
        return x[:, 0] * 3


NOON = datetime(2026, 1, 31, 12, 0, 0, 500)
RETURNED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a table": (
        Own(lambda x: pd.DataFrame({"risk": x[:, 0], "band": np.where(x[:, 0] > 0, "hi", "lo")})),
        {"risk": X[:, 0].tolist(), "band": np.where(X[:, 0] > 0, "hi", "lo").tolist()},
    ),
    "a series": (Own(lambda x: pd.Series(x[:, 0], name="r")), {"value": X[:, 0].tolist()}),
    "a list": (Own(lambda x: x[:, 0].tolist()), {"value": X[:, 0].tolist()}),
    "words": (Own(lambda x: np.where(x[:, 0] > 0, "hi", "lo")), {"label": np.where(X[:, 0] > 0, "hi", "lo").tolist()}),
    "objects": (Own(lambda x: np.array(["ünï"] * len(x), object)), {"label": ["ünï"] * 90}),
    "truth values": (Own(lambda x: x[:, 0] > 0), {"label": (X[:, 0] > 0).tolist()}),
    "one list a row": (Own(lambda x: x[:, :2].tolist()), {f"value_{n}": X[:, n].tolist() for n in range(2)}),
    "dates": (Own(lambda x: [date(2026, 1, 31)] * len(x)), {"value": [date(2026, 1, 31)] * 90}),
    "timestamps": (Own(lambda x: np.array([NOON] * len(x), "datetime64[ns]")), {"value": [NOON] * 90}),
    "a regressor's whole numbers": (
        OwnRegressor(lambda x: x[:, 0].astype(int)),
        {"value": X[:, 0].astype(int).tolist()},
    ),
    "no estimator": (Plain(), {"value": (X[:, 0] * 3).tolist()}),
}  # fmt: skip


@pytest.mark.parametrize("case", RETURNED)
def test_an_estimator_of_ones_own_has_the_outputs_that_it_returns(tmp_path: Path, case: str) -> None:
    model, wanted = RETURNED[case]

    found = scored(added(tmp_path, model.fit(X) if hasattr(model, "fit") else model))

    assert found == wanted


UNUSABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one number": (lambda _: 3.0, r"predict\(\) returned float of shape \[\] for 5 rows"),
    "too few": (lambda x: x[:1, 0], r"predict\(\) returned ndarray of shape \[1\] for 5 rows"),
    "two arrays": (lambda x: (x[:, 0], x[:, 1]), r"predict\(\) returned tuple of shape"),
    "three axes": (lambda x: np.zeros((len(x), 2, 2)), r"shape \[5, 2, 2\] for 5 rows"),
    "dicts": (lambda x: [{"a": 1}] * len(x), "returned values of the type struct"),
    "nothing": (lambda x: [None] * len(x), "returned values of the type null"),
    "rows of several lengths": (lambda x: [[1] * n for n in range(len(x))], "no .rows. or .rows, values."),
    "complex": (lambda x: x[:, 0] + 1j, "returned values that no column holds"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_output_that_no_columns_hold_is_refused_with_the_next_step(tmp_path: Path, case: str) -> None:
    output, message = UNUSABLE[case]

    with pytest.raises(StoreError, match=f"{message}.*Wrap it in a Python class"):
        added(tmp_path, Own(output).fit(X))


def test_a_row_with_a_value_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    fitted = Own(lambda x: ["no" if value > 2 else float(value) for value in x[:, 0]]).fit(X)
    model = registry.load(added(tmp_path, fitted))

    with pytest.raises(OutputError, match="values for 'value' that are not double"):
        model.predict(pa.RecordBatch.from_arrays([pa.array([3.0])] * 4, names=list(FOUR)))


@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_a_quantile_is_a_value(tmp_path: Path, quantile: float) -> None:
    fitted = HistGradientBoostingRegressor(loss="quantile", quantile=quantile, max_iter=5).fit(X, X[:, 0])

    assert scored(added(tmp_path, fitted)) == {"value": fitted.predict(X).tolist()}


def test_older_versions_keep_their_columns_and_never_store_one_label_for_several(tmp_path: Path) -> None:
    """Their model.toml does not list the model's outputs."""

    def of_before(model: Any, outputs: pa.Schema) -> Any:
        artifact = added(tmp_path, LogisticRegression().fit(X, TAGS[:, 0]))
        signature = type(artifact.signature)(artifact.signature.inputs, outputs)
        old = Artifact("m", 1, "", tmp_path, "pickle", "m.pkl", ("cpu",), signature, {"fed": "matrix"})
        return ready(model, old)

    one, many = LogisticRegression().fit(X, WORDS), MLPClassifier((4,), max_iter=20).fit(X, TAGS)
    numbers = [(name, pa.float64()) for name in ("class_0", "class_1", "class_2")]
    kept = of_before(one, pa.schema([("label", pa.string()), *numbers])).predict(ROWS)
    detector = IsolationForest(n_estimators=5, random_state=0).fit(X)
    labels = of_before(detector, pa.schema([("label", pa.int64())])).predict(ROWS)

    assert kept["label"].to_pylist() == one.predict(X).tolist()
    assert labels.to_pydict() == {"label": detector.predict(X).tolist()}
    with pytest.raises(OutputError, match="add its file again"):
        of_before(many, pa.schema([("label", pa.int64()), *numbers])).predict(ROWS)


def test_a_label_of_predict_that_the_probabilities_do_not_imply_is_kept(tmp_path: Path) -> None:
    fitted = SVC(probability=False).fit(X, WORDS)

    assert scored(added(tmp_path, fitted)) == {"label": fitted.predict(X).tolist()}
