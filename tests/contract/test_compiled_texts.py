"""The compiled engine returns for any text what scikit-learn returns, or leaves it to scikit-learn."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    PassiveAggressiveClassifier,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import murmurhash3_32

from scorebeat.models.engines import EngineUnavailable
from scorebeat.models.formats.sklearn.compiled import kernels, machine_code
from scorebeat.models.formats.sklearn.compiled.characters import lower_cases
from tests.contract.text_models import CORPUS, LABELS, Engines, beside_numbers, every_token_counts
from tests.support.machine_code import shared_machine_code

TRICKY = "aAzZ09_ß\u1e9e\u212b\u212a\u0131\u017fΣς"
"""Among them characters whose lower case has fewer bytes."""
EVERYTHING = st.characters(exclude_categories=["Cs"])
LETTERS = st.characters(categories=["L", "N", "Mn"]) | st.sampled_from(TRICKY)
WORDS = st.sampled_from(" ".join(CORPUS).split()) | st.text(LETTERS, max_size=8) | st.sampled_from(["THE", "the", "A"])
TEXTS = st.text(EVERYTHING, max_size=60) | st.builds(
    str.join, st.sampled_from([" ", "  ", ", ", "-", "\n", "\u00a0", "'"]), st.lists(WORDS, max_size=25)
)

VECTORIZERS: dict[str, Callable[[], Any]] = {
    "words with spaces": lambda: CountVectorizer(token_pattern=r"[^,;.]+"),
    "a stop word with a space": lambda: TfidfVectorizer(token_pattern=r"[^,;.]+", stop_words=["the bank", "nobody"]),
    "as by default": TfidfVectorizer,
    "pairs, sublinear": lambda: TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    "pairs and triples alone": lambda: CountVectorizer(ngram_range=(2, 3)),
    "one letter is a word": lambda: CountVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 3), binary=True),
    "small letters between boundaries": lambda: TfidfVectorizer(token_pattern=r"\b[a-z]{2,}\b", norm="l1"),
    "all that is no space": lambda: TfidfVectorizer(token_pattern=r"\S+", lowercase=False, use_idf=False),
    "letters and signs": lambda: CountVectorizer(token_pattern=r"[\w'-]{3,}", max_features=9),
    "no stop words": lambda: TfidfVectorizer(stop_words="english", ngram_range=(1, 2), norm=None),
    "counted, then weighted": lambda: make_pipeline(CountVectorizer(), TfidfTransformer(sublinear_tf=True)),
    "hashed": lambda: HashingVectorizer(n_features=2**9, ngram_range=(1, 2)),
    "hashed, binary, l1": lambda: HashingVectorizer(n_features=77, binary=True, norm="l1", stop_words=["the"]),
    "hashed counts, weighted": lambda: make_pipeline(
        HashingVectorizer(n_features=99, alternate_sign=False, norm=None), TfidfTransformer(sublinear_tf=True)
    ),
    "two side by side": lambda: make_union(TfidfVectorizer(), CountVectorizer(ngram_range=(2, 2), lowercase=False)),
}
ENDS: dict[str, Callable[[], Any]] = {
    "logistic regression": LogisticRegression,
    "two classes": LogisticRegression,
    "sgd": lambda: SGDClassifier(random_state=0),
    "sgd with probabilities": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "sgd, modified huber": lambda: SGDClassifier(loss="modified_huber", random_state=0),
    "linear svc": LinearSVC,
    "ridge classifier": RidgeClassifier,
    "multinomial": MultinomialNB,
    "complement": ComplementNB,
    "passive aggressive": lambda: PassiveAggressiveClassifier(random_state=0),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=2),
    "one against the rest": lambda: OneVsRestClassifier(LogisticRegression()),
    "searched": lambda: GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_machine_code(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def engines(cache: Path) -> dict[str, Engines]:
    """One model a vectorizer."""
    return {
        name: Engines(make_pipeline(made(), LogisticRegression()).fit(CORPUS, LABELS), cache)
        for name, made in VECTORIZERS.items()
    }


@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_texts_have_scikit_learns_own_predictions(engines: dict[str, Engines], texts: list[str]) -> None:
    assert {name: found for name, each in engines.items() if (found := each.differences(texts))} == {}


@pytest.mark.wide
@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=1000, deadline=None)
def test_many_more_texts_have_scikit_learns_own_predictions(engines: dict[str, Engines], texts: list[str]) -> None:
    assert {name: found for name, each in engines.items() if (found := each.differences(texts))} == {}


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("pattern", [r"(?u)\b\w\w+\b", r"\S+", r"\b[a-z]+\b"])
def test_each_character_is_split_and_lowered_as_python_does(cache: Path, pattern: str, step: int) -> None:
    cased = {chr(at) for at in lower_cases().changed}
    special = {chr(at) for at in lower_cases().special}
    every = {chr(at) for at in range(0, sys.maxunicode + 1, step) if not 0xD800 <= at <= 0xDFFF}
    found = sorted((every | cased) - special)
    pieces = [f"a{c}b {c} {c}{c} Z{c}" for c in found]
    texts = ["\n".join(pieces[at : at + 100]) for at in range(0, len(pieces), 100)]
    one = every_token_counts(HashingVectorizer(n_features=2**12, norm=None, token_pattern=pattern), cache)

    assert one.differences(texts) == []
    assert one.by_scikit_learn(texts) == 0


def test_a_text_whose_lower_case_depends_on_its_letters_goes_to_scikit_learn(cache: Path) -> None:
    one = every_token_counts(HashingVectorizer(n_features=2**12), cache)
    texts = ["ΟΔΟΣ ΣΟΦΟΣ", "ordinary text", "İstanbul", "\u017fharp, \u212a and \u212b"]

    assert {chr(at) for at in lower_cases().special} == {"Σ", "İ"}
    assert one.differences(texts) == []
    assert one.by_scikit_learn(texts) == 2


def test_no_character_has_another_lower_case_among_letters_unless_it_is_known() -> None:
    special = {*lower_cases().special.tolist()}
    others = [chr(at) for at in range(sys.maxunicode + 1) if at not in special]
    around = "a".join(others)

    assert around.lower() == "a".join(each.lower() for each in others)


def test_texts_without_words_and_very_long_ones(engines: dict[str, Engines]) -> None:
    long = f"the bank {'Größe' * 200} " * 9_000  # beyond 10 MB
    texts = ["", " ", "...!?", "\n\t", "x" * 10_000, "\U0010ffff", "é" * 999]

    assert {name: found for name, each in engines.items() if (found := each.differences(texts))} == {}
    assert engines["pairs, sublinear"].differences([long]) == []


@pytest.mark.parametrize("end", ENDS)
def test_each_linear_model_goes_on_from_the_compiled_scores(cache: Path, end: str) -> None:
    labels = np.where(LABELS == "bad", 1, 0) if end == "two classes" else LABELS
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), ENDS[end]()).fit(CORPUS * 2, [*labels, *labels])
    one = Engines(model, cache)
    texts = [*CORPUS, "the bank", "", "naïve phone answers nobody"]

    assert one.differences(texts) == []
    assert one.by_scikit_learn(CORPUS) == 0


@pytest.mark.parametrize("inner", [Ridge, LinearRegression])
def test_a_classifier_that_shows_no_nearness_of_its_classes_is_not_compiled(cache: Path, inner: Any) -> None:
    model = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(inner())).fit(CORPUS, LABELS)

    with pytest.raises(EngineUnavailable, match="OneVsRestClassifier has neither decision_function nor predict_proba"):
        Engines(model, cache)


def test_values_come_from_the_compiled_scores(cache: Path) -> None:
    targets = np.column_stack([np.arange(8.0), -(np.arange(8.0) ** 2)])
    for target in (targets, targets[:, 0]):
        assert Engines(make_pipeline(TfidfVectorizer(), Ridge()).fit(CORPUS, target), cache).differences(CORPUS) == []


def test_texts_beside_other_columns(cache: Path) -> None:
    rows = beside_numbers()
    parts = make_column_transformer(
        (TfidfVectorizer(ngram_range=(1, 2)), "review"),
        (StandardScaler(), ["age"]),
        (make_union(CountVectorizer(), HashingVectorizer(n_features=32)), "title"),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
    )
    one = Engines(make_pipeline(parts, LogisticRegression()).fit(rows, LABELS), cache, ())
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False).select([i.name for i in one.loaded.inputs])
    other = batch.set_column(1, "review", pa.array([*CORPUS[1:], "ΟΔΟΣ"]))

    assert one.differences(batch) == []
    assert one.differences(other) == []
    assert one.differences(batch.slice(3, 4)) == []


def test_null_reaches_scikit_learn_with_its_own_error(engines: dict[str, Engines]) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([CORPUS[0], None])], names=["review"])
    one = engines["as by default"].loaded

    with pytest.raises(ValueError, match=r"np\.nan is an invalid document"):
        one.call("predict", rows)
    assert len(one.call("predict", rows.slice(0, 1))) == 1


def test_bytes_that_are_no_text_are_left_to_scikit_learn(engines: dict[str, Engines]) -> None:
    broken = (b"caf\xc3", b"\xff", b"a\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80 word")
    for each in broken:
        texts = pa.array([b"card", each], pa.binary()).view(pa.string())
        rows = pa.RecordBatch.from_arrays([texts], names=["review"])
        with pytest.raises((UnicodeDecodeError, pa.ArrowException)):
            engines["hashed"].loaded.call("predict", rows)


def test_large_strings_and_slices_of_a_column(engines: dict[str, Engines]) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array(CORPUS, pa.large_string())], names=["review"])

    assert engines["as by default"].differences(rows.slice(2, 3)) == []


def test_a_word_is_found_by_its_letters_and_never_by_a_hash_alone() -> None:
    letters, starts = np.frombuffer(b"complaints", np.uint8), np.array([0, 10])
    words = np.full((4, 2), -1, np.int64)
    kernels.fill_words(words, np.array([5]), starts, letters)
    (key,) = (row[0] for row in words.tolist() if row[1] != -1)
    other = np.frombuffer(b"compliment", np.uint8)

    find = kernels.find_word.py_func  # not compiled, as compiling it for this test alone takes seconds
    assert find(letters, 0, 10, key, words, starts, letters) == 5
    assert find(other, 0, 10, key, words, starts, letters) == -1


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_hash_is_scikit_learns_bit_for_bit(data: bytes) -> None:
    text = np.frombuffer(b"__" + data, np.uint8)

    with np.errstate(over="ignore"):  # not compiled, as compiling it for this test alone takes seconds
        found = kernels.murmur.py_func(text, 2, len(text))
    assert found == murmurhash3_32(data, 0)


def test_the_number_of_threads_is_one(engines: dict[str, Engines]) -> None:
    import numba  # noqa: PLC0415 -- an extra

    assert engines["hashed"].differences(CORPUS) == []
    with pytest.raises(ValueError, match="not initialized"):
        numba.threading_layer()


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "letters": (lambda: TfidfVectorizer(analyzer="char_wb"), "TfidfVectorizer has analyzer='char_wb'"),
    "accents": (lambda: CountVectorizer(strip_accents="unicode"), "CountVectorizer has strip_accents='unicode'"),
    "a tokenizer": (lambda: CountVectorizer(tokenizer=str.split, token_pattern=None), "has tokenizer="),
    "a group": (lambda: CountVectorizer(token_pattern=r"\b(\w+)\b"), "is not one class of characters"),
    "two classes": (lambda: CountVectorizer(token_pattern=r"[a-z]\w+"), "is not one class of characters"),
    "one boundary": (lambda: CountVectorizer(token_pattern=r"\b[a-z]+"), r"has \\b where"),
    "a space": (lambda: CountVectorizer(token_pattern=r"[^,]+", ngram_range=(1, 2)), "may have a space"),
    "single precision": (lambda: TfidfVectorizer(dtype=np.float32), "are not float64"),
    "weights": (lambda: FeatureUnion([("words", CountVectorizer())], transformer_weights={"words": 2}), "_weights"),
    "signed and sublinear": (
        lambda: make_pipeline(
            HashingVectorizer(n_features=2**18, alternate_sign=False), TfidfTransformer(sublinear_tf=True)
        ),
        "needs counts",
    ),
}


@pytest.mark.parametrize("title", UNFIT)
def test_a_vectorizer_that_cannot_be_exact_keeps_scikit_learn(cache: Path, title: str) -> None:
    vectorizer, reason = UNFIT[title]
    fitted = make_pipeline(vectorizer(), Ridge()).fit(CORPUS, np.arange(8.0))

    with pytest.raises(EngineUnavailable, match=reason):
        Engines(fitted, cache)


def test_only_linear_models_in_a_pipeline_with_their_texts_are_compiled(cache: Path) -> None:
    forest = make_pipeline(CountVectorizer(), RandomForestClassifier(3)).fit(CORPUS, LABELS)
    around = CalibratedClassifierCV(make_pipeline(CountVectorizer(), LinearSVC()), cv=2).fit(CORPUS * 2, [*LABELS] * 2)

    with pytest.raises(EngineUnavailable, match="RandomForestClassifier is no linear model"):
        Engines(forest, cache)
    with pytest.raises(EngineUnavailable, match="it is a CalibratedClassifierCV"):
        Engines(around, cache)


def test_an_engine_that_differs_on_the_machine_that_loads_it_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = machine_code.machine_code(cache)
    wrong = machine_code.MachineCode(lambda *_: None, right.fill_words, right.fill_grams)
    monkeypatch.setattr(machine_code, "_of_process", [wrong])

    with pytest.raises(EngineUnavailable, match="differs from scikit-learn's for 16 invented texts"):
        Engines(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(CORPUS, LABELS), cache)


def test_without_numba_the_reason_is_how_to_install_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kernels", "machine_code", "engine"):
        monkeypatch.delitem(sys.modules, f"scorebeat.models.formats.sklearn.compiled.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)

    with pytest.raises(EngineUnavailable, match=r"pip install 'scorebeat\[text\]'"):
        Engines(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(CORPUS, LABELS), cache)


def test_a_series_of_texts_is_what_the_models_were_fitted_on(engines: dict[str, Engines]) -> None:
    own = engines["as by default"].loaded.model

    assert own.predict(pd.Series(CORPUS)).tolist() == own.predict(CORPUS).tolist()


def test_a_ridge_classifier_of_several_labels_is_not_compiled(cache: Path) -> None:
    several = np.arange(16).reshape(8, 2) % 3 == 0
    model = make_pipeline(CountVectorizer(), RidgeClassifier()).fit(CORPUS, several.astype(int))

    with pytest.raises(EngineUnavailable, match="several labels a row"):
        Engines(model, cache)


def test_a_label_that_rounding_decides_is_scikit_learns(cache: Path) -> None:
    model = make_pipeline(CountVectorizer(), LinearSVC(fit_intercept=False)).fit(CORPUS, LABELS)
    one = Engines(model, cache)

    assert one.by_scikit_learn(["", "the bank", "unknown words"]) == 2
    assert one.differences(["", "the bank", "unknown words"]) == []


def test_large_weights_make_more_labels_near_each_other(cache: Path) -> None:
    model = make_pipeline(CountVectorizer(), LinearSVC(fit_intercept=False)).fit(CORPUS[:6], [0, 1, 0, 1, 0, 1])
    weights = model[-1].coef_
    weights[:] = 1e4 / 3
    weights[0, model[0].vocabulary_["the"]] *= -1 + 1e-11
    one = Engines(model, cache)

    assert one.by_scikit_learn(["the bank", "the the bank"]) == 1
    assert one.differences(["the bank " * 1000, "the the bank"]) == []


def test_isotonic_calibration_keeps_scikit_learn(cache: Path) -> None:
    calibrated = CalibratedClassifierCV(MultinomialNB(), cv=2, method="isotonic")
    model = make_pipeline(CountVectorizer(), calibrated).fit(CORPUS * 2, [*LABELS] * 2)

    with pytest.raises(EngineUnavailable, match="isotonic calibration has steps"):
        Engines(model, cache)


def test_a_vocabulary_with_surrogates_is_scored_as_scikit_learn_scores_it(cache: Path) -> None:
    model = make_pipeline(CountVectorizer(vocabulary=["bank", "\ud800"]), LogisticRegression())
    one = Engines(model.fit(CORPUS, LABELS), cache)

    assert one.differences(CORPUS) == []


def test_columns_that_are_passed_through_stand_beside_texts(cache: Path) -> None:
    rows = beside_numbers()[["age", "review"]]
    columns = make_column_transformer((TfidfVectorizer(), "review"), remainder="passthrough")
    one = Engines(make_pipeline(columns, LogisticRegression()).fit(rows, LABELS), cache, ())

    assert one.differences(pa.RecordBatch.from_pandas(rows, preserve_index=False)) == []


def test_a_scaler_after_the_columns_keeps_scikit_learn(cache: Path) -> None:
    columns = make_column_transformer((TfidfVectorizer(), "review"), sparse_threshold=0)
    model = make_pipeline(columns, StandardScaler(), Ridge()).fit(beside_numbers(), np.arange(8.0))

    with pytest.raises(EngineUnavailable, match="StandardScaler is between its ColumnTransformer and"):
        Engines(model, cache, ())


def test_a_view_of_texts_is_left_to_scikit_learn(engines: dict[str, Engines]) -> None:
    loaded = engines["as by default"].loaded
    views = pa.RecordBatch.from_arrays([pa.array(CORPUS, pa.string_view())], names=["review"])
    texts = pa.RecordBatch.from_arrays([pa.array(CORPUS)], names=["review"])

    assert np.asarray(loaded.call("predict", views)).tolist() == np.asarray(loaded.call("predict", texts)).tolist()
