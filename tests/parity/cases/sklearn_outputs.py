"""scikit-learn models that return something else than one label or one number a row."""

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from tests.parity import expect, frames
from tests.parity.case import Case, Expected
from tests.parity.cases.prepared import MIXED, logistic, mixed, scaled
from tests.parity.fitted import fitted

NUMBERS = ("age", "income", "debt", "visits")
TAGS = 3


def tags(customers: Any) -> Any:
    """A matrix of zeros and ones."""
    leaves, rank = frames.churned(customers), frames.tier(customers)
    return np.column_stack([leaves, rank == 2, rank == 0]).astype(int)


def two_texts(customers: Any) -> Any:
    leaves, rank = frames.churned(customers), frames.tier(customers)
    return np.column_stack([frames.named(("it's", "ö"), leaves), frames.named(("a b", "c", "d"), rank)])


def two_numbers(customers: Any) -> Any:
    return np.column_stack([frames.spent(customers), frames.tier(customers) * 1.5])


def labels_and_chances(model: Any, x: Any) -> Expected:
    """Several labels a row, and one array of probabilities of them."""
    found, chances = np.asarray(model.predict(x)), np.asarray(model.predict_proba(x))
    return {
        **{f"label_{n}": labels for n, labels in enumerate(found.T)},
        **{f"label_{n}_probability": each for n, each in enumerate(chances.T)},
    }


def labels_and_arrays(model: Any, x: Any) -> Expected:
    """Several labels a row, and an array of probabilities for each."""
    found = {f"label_{n}": labels for n, labels in enumerate(np.asarray(model.predict(x)).T)}
    for n, chances in enumerate(model.predict_proba(x)):
        names = [expect.class_column(c) for c in np.asarray(model.classes_[n]).tolist()]
        found |= {f"label_{n}_{name}": each for name, each in zip(names, chances.T, strict=True)}
    return found


def normality(model: Any, x: Any) -> Expected:
    return {"label": model.predict(x).astype(np.int64), "score": model.score_samples(x)}


def cluster(model: Any, x: Any) -> Expected:
    return {"label": np.asarray(model.predict(x)).astype(np.int64)}


def embedding(model: Any, x: Any) -> Expected:
    return {"embedding": np.asarray(model.transform(x))}


def on_numbers(model: Any, expected: expect.Expectation, y: Any = None) -> Case:
    return Case(fitted(make_pipeline(scaled(), model), NUMBERS, y, expected))


CASES = {
    "a label matrix of a perceptron": Case(
        fitted(
            make_pipeline(mixed(), MLPClassifier((8,), max_iter=80, random_state=0)), MIXED, tags, labels_and_chances
        )
    ),
    "a label matrix, one against the rest of texts": Case(
        fitted(
            make_pipeline(TfidfVectorizer(), OneVsRestClassifier(logistic())),
            ("review",),
            tags,
            labels_and_chances,
            x=lambda frame: frame["review"],
            inputs=("review",),
        )
    ),
    "several labels of texts": Case(
        fitted(make_pipeline(mixed(), MultiOutputClassifier(logistic())), MIXED, two_texts, labels_and_arrays)
    ),
    "several labels of a forest": Case(
        fitted(make_pipeline(mixed(), RandomForestClassifier(4, random_state=0)), MIXED, tags, labels_and_arrays)
    ),
    "a chain of classifiers": Case(
        fitted(
            make_pipeline(mixed(), ClassifierChain(logistic())),
            MIXED,
            tags,
            lambda model, x: {
                name: v.astype(np.int64) if "prob" not in name else v
                for name, v in labels_and_chances(model, x).items()
            },
        )
    ),
    "several numbers with names": Case(
        fitted(
            make_pipeline(mixed(), LinearRegression()),
            MIXED,
            two_numbers,
            expect.values("spend (€)", "it's"),
            outputs=("spend (€)", "it's"),
        )
    ),
    "isolation forest": on_numbers(IsolationForest(n_estimators=8, random_state=0), normality),
    "one-class support vectors": on_numbers(OneClassSVM(), normality),
    "clusters": on_numbers(KMeans(4, n_init=1, random_state=0), cluster),
    "mixture": on_numbers(GaussianMixture(3, random_state=0), cluster),
    "components alone": Case(fitted(make_pipeline(scaled(), PCA(2)), NUMBERS, None, embedding)),
}


def dense(model: Any, x: Any) -> Any:
    found = model.transform(x)
    return found.toarray() if hasattr(found, "toarray") else found
