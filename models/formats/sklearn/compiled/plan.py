"""Which parts of a fitted model the compiled pass computes: its text columns, and the linear model at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline

from scorebeat.models.contract import Input
from scorebeat.models.formats.shared.labels import predicts_as_written
from scorebeat.models.formats.sklearn.columns import parts, picked_names, runs_own_code, training_names, working_steps
from scorebeat.models.formats.sklearn.compiled.characters import Characters, characters
from scorebeat.models.formats.sklearn.compiled.ends import LinearEnd, Matrix
from scorebeat.models.formats.sklearn.compiled.unfit import Unfit
from scorebeat.models.formats.sklearn.compiled.vocabulary import Vocabulary
from scorebeat.models.formats.sklearn.inputs import FRAME, TEXTS
from scorebeat.models.formats.sklearn.outputs import has_several_labels

_NORMS = {None: 0, "l1": 1, "l2": 2}
_EXAMPLES = 200
_CHANGE_TEXTS = ("preprocessor", "tokenizer", "strip_accents")
"""Parameters of a vectorizer that change texts in ways that the pass does not know."""


@dataclass(frozen=True)
class TextBlock:
    """One vectorizer over one text column, with the weights of its features."""

    column: str
    """The input with the texts."""
    characters: Characters
    grams: tuple[int, int]
    vocabulary: Vocabulary
    examples: tuple[str, ...]
    """Some terms as the model has them."""
    is_hashed: bool
    is_signed: bool
    is_binary: bool
    first_norm: int
    is_sublinear: bool
    last_norm: int
    weights: Matrix
    """Of each feature its idf, then its weight for each score."""


@dataclass(frozen=True)
class OtherBlock:
    """Columns that scikit-learn itself transforms, with the weights of the features that it makes of them."""

    columns: Any
    """Their names in training: a list for a DataFrame, one name for a Series."""
    inputs: frozenset[str]
    """The inputs that they are."""
    transformer: Any
    weights: Matrix


@dataclass(frozen=True)
class CompiledPlan:
    """A model as text blocks, what scikit-learn itself transforms, and the end that takes their scores."""

    texts: tuple[TextBlock, ...]
    others: tuple[OtherBlock, ...]
    end: Any
    """Its predict, predict_proba and decision_function take [rows, scores]."""
    scores: int


def reads_texts(model: Any) -> bool:
    """Whether a vectorizer of texts is in it."""
    return any(isinstance(part, CountVectorizer | HashingVectorizer) for part in parts(model))


def make_plan(model: Any, fed_as: str, inputs: Sequence[Input]) -> CompiledPlan:
    """The plan for a model and its inputs. Raises Unfit with the reason if it would not be exactly the model."""
    while predicts_as_written(model) and hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    if type(model) is not Pipeline or not predicts_as_written(model):
        raise Unfit(f"it is a {type(model).__name__}, and no pipeline from texts to a linear model")
    if runs_own_code(model):
        raise Unfit("it has a class or function of its author")
    configs = [getattr(part, "_sklearn_output_config", {}) for part in parts(model)]
    # a ColumnTransformer sets `default` for columns that it passes through
    if any(config.get("transform", "default") != "default" for config in configs):
        raise Unfit("a part of it has set_output")
    if fed_as not in (TEXTS, FRAME):
        raise Unfit("its columns have no names")
    *first, last = working_steps(model)
    end = LinearEnd(last)
    binarizer = getattr(last, "_label_binarizer", None)  # of RidgeClassifier
    is_multilabel = str(getattr(binarizer, "y_type_", "")).startswith("multilabel")
    if np.ndim(getattr(last, "classes_", ())) != 1 or has_several_labels(model) or is_multilabel:
        raise Unfit("it has several labels a row")
    if not first:
        raise Unfit("its vectorizer is not in a pipeline with its linear model")
    if type(first[0]) is ColumnTransformer:
        if len(first) > 1:
            raise Unfit(f"{type(first[1]).__name__} is between its ColumnTransformer and the linear model")
        return _of_columns(first[0], end, model, inputs)
    blocks = _blocks(first, inputs[0].name, end.weights)
    return CompiledPlan(tuple(blocks), (), end.model, end.weights.shape[1])


def _of_columns(transformer: Any, end: LinearEnd, model: Any, inputs: Sequence[Input]) -> CompiledPlan:
    """The plan for texts beside other columns, which scikit-learn transforms itself."""
    if transformer.transformer_weights:
        raise Unfit("its ColumnTransformer has transformer_weights")
    names, own = training_names(model), {i.trained_name: i.name for i in inputs}
    texts, others = list[TextBlock](), list[OtherBlock]()
    for name, step, columns in transformer.transformers_:
        weights, picked = end.weights[transformer.output_indices_[name]], picked_names(columns, names)
        if not len(weights):  # dropped, or without a column
            continue
        is_one = isinstance(columns, str | int)
        if not reads_texts(step):
            if isinstance(step, str):
                raise Unfit(f"{name} of its ColumnTransformer is {step}")
            needed = frozenset(own[each] for each in picked)
            others.append(OtherBlock(picked[0] if is_one else picked, needed, step, np.ascontiguousarray(weights)))
            continue
        if not is_one:
            raise Unfit(f"{name} of its ColumnTransformer takes several columns")
        texts += _blocks([step], own[picked[0]], weights)
    return CompiledPlan(tuple(texts), tuple(others), end.model, end.weights.shape[1])


def _blocks(steps: Sequence[Any], column: str, weights: Matrix) -> list[TextBlock]:
    """The blocks of a text column: one a vectorizer, their features side by side."""
    if len(steps) == 1 and type(steps[0]) is Pipeline:
        return _blocks(working_steps(steps[0]), column, weights)
    if len(steps) == 1 and type(steps[0]) is FeatureUnion:
        union, blocks, start = steps[0], list[TextBlock](), 0
        if union.transformer_weights:
            raise Unfit("its FeatureUnion has transformer_weights")
        for _, step in union.transformer_list:
            if step == "drop":
                continue
            width = _width(step)
            blocks += _blocks([step], column, weights[start : start + width])
            start += width
        if start != len(weights):
            raise Unfit("the features of its FeatureUnion are not those of its linear model")
        return blocks
    vectorizer, *transformers = steps
    if not isinstance(vectorizer, CountVectorizer | HashingVectorizer):
        raise Unfit(f"its texts first go through {type(vectorizer).__name__}")
    if len(transformers) > 1 or any(type(each) is not TfidfTransformer for each in transformers):
        raise Unfit(f"its words go through {type(transformers[-1]).__name__} before the linear model")
    return [_block(vectorizer, transformers[0] if transformers else None, column, weights)]


def _width(step: Any) -> int:
    """The number of features of a part of a FeatureUnion."""
    first = working_steps(step)[0] if type(step) is Pipeline else step
    if isinstance(first, CountVectorizer):
        return len(first.vocabulary_)
    if isinstance(first, HashingVectorizer):
        return int(first.n_features)
    raise Unfit(f"a part of its FeatureUnion is a {type(first).__name__}")


def _block(vectorizer: Any, tfidf: Any, column: str, weights: Matrix) -> TextBlock:
    name, is_hashed = type(vectorizer).__name__, type(vectorizer) is HashingVectorizer
    if type(vectorizer) is TfidfVectorizer:
        if tfidf is not None:
            raise Unfit("its words are weighted twice")
        tfidf = vectorizer  # it has the attributes of a TfidfTransformer
    idf = getattr(tfidf, "idf_", None)
    _require_plain(vectorizer, idf)
    known = characters(vectorizer.token_pattern, is_lowercase=bool(vectorizer.lowercase))
    shortest, longest = (int(each) for each in vectorizer.ngram_range)
    if longest > 1 and known.has_space:
        raise Unfit("its tokens may have a space, which is also between the words of an n-gram")
    terms = {} if is_hashed else vectorizer.vocabulary_
    if len(weights) != (vectorizer.n_features if is_hashed else len(terms)):
        raise Unfit(f"the features of its {name} are not those of its linear model")
    first_norm = _NORMS[vectorizer.norm] if is_hashed else 0
    is_signed = is_hashed and bool(vectorizer.alternate_sign)
    is_sublinear = tfidf is not None and bool(tfidf.sublinear_tf)
    if is_sublinear and (first_norm or (is_signed and not vectorizer.binary)):
        raise Unfit(f"sublinear_tf needs counts of words, which its {name} does not return")
    return TextBlock(
        column,
        known,
        (shortest, longest),
        Vocabulary.of(terms, frozenset(vectorizer.get_stop_words() or ()), shortest, longest),
        tuple(list(terms)[:: max(1, len(terms) // _EXAMPLES)]),
        is_hashed,
        is_signed,
        bool(vectorizer.binary),
        first_norm,
        is_sublinear,
        0 if tfidf is None else _NORMS[tfidf.norm],
        np.ascontiguousarray(np.column_stack([np.ones(len(weights)) if idf is None else idf, weights])),
    )


def _require_plain(vectorizer: Any, idf: Any) -> None:
    """Raises Unfit for a vectorizer that does more than to find words and n-grams, or computes in other numbers."""
    kind = type(vectorizer)
    if kind not in (CountVectorizer, TfidfVectorizer, HashingVectorizer):
        raise Unfit(f"its {kind.__name__} is not scikit-learn's own")
    if vectorizer.analyzer != "word":
        raise Unfit(f"its {kind.__name__} has analyzer={vectorizer.analyzer!r}, and not 'word'")
    for parameter in _CHANGE_TEXTS:
        if getattr(vectorizer, parameter) is not None:
            raise Unfit(f"its {kind.__name__} has {parameter}={getattr(vectorizer, parameter)!r}")
    if vectorizer.input != "content":
        raise Unfit(f"its {kind.__name__} reads files")
    if any(callable(each) and not isinstance(each, type) for each in vars(vectorizer).values()):
        raise Unfit(f"a method of its {kind.__name__} was replaced")
    dtype = np.dtype(vectorizer.dtype)
    is_exact = dtype == np.float64 or (kind is CountVectorizer and dtype == np.int64)
    expected = "int64 or float64" if kind is CountVectorizer else "float64"
    if not is_exact or (idf is not None and idf.dtype != np.float64):
        raise Unfit(f"its {kind.__name__} computes in {dtype}, and not in {expected}")
