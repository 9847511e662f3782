"""Classifiers, regressors and models around other models of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.parity import expect, frames
from tests.parity.case import Case
from tests.parity.cases.prepared import MIXED, columns_of, left, logistic, mixed, scaled, strange
from tests.parity.fitted import fitted, joblib_file

NUMBERS = ("age", "income", "debt", "visits")
LONG = "Ä very long class; " * 30


def classes(*names: Any) -> Any:
    """Three classes of these names, of any type."""
    return lambda customers: frames.named(names, frames.tier(customers))


def two_targets(customers: Any) -> Any:
    return np.column_stack([frames.spent(customers), frames.tier(customers) * 1.5])


def frozen() -> Any:
    """A pipeline that is fitted already, and then calibrated."""
    everyone = frames.customers()
    inner = make_pipeline(mixed(), logistic()).fit(everyone[[*MIXED]], left(everyone))
    return CalibratedClassifierCV(FrozenEstimator(inner), method="isotonic")


def classifier(model: Any, y: Any = strange, expected: expect.Expectation | None = None, **more: Any) -> Case:
    """After the usual preparation of columns by name."""
    return Case(fitted(make_pipeline(mixed(), model), MIXED, y, expected or expect.probabilities(), **more))


def regressor(model: Any, **more: Any) -> Case:
    return Case(fitted(make_pipeline(mixed(), model), MIXED, frames.spent, expect.value, **more))


CASES = {
    "calibrated around a frozen pipeline": Case(fitted(frozen, MIXED, left, expect.probabilities())),
    "fixed threshold": Case(
        fitted(
            FixedThresholdClassifier(make_pipeline(mixed(), logistic()), threshold=0.3, pos_label="leaves"),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "tuned threshold": Case(
        fitted(
            TunedThresholdClassifierCV(make_pipeline(mixed(), logistic()), cv=3, thresholds=20, random_state=0),
            MIXED,
            frames.churned,
            expect.probabilities(),
        )
    ),
    "stacked": Case(
        fitted(
            StackingClassifier(
                [
                    ("forest", make_pipeline(mixed(), ExtraTreesClassifier(5, random_state=0))),
                    ("plain", make_pipeline(columns_of((scaled(), ["age"])), GaussianNB())),
                ],
                logistic(),
                cv=3,
            ),
            MIXED,
            strange,
            expect.probabilities(),
        )
    ),
    "grid search": Case(
        fitted(
            GridSearchCV(make_pipeline(mixed(), logistic()), {"logisticregression__C": [0.1, 1]}, cv=2),
            MIXED,
            strange,
            expect.probabilities(),
        )
    ),
    "random search in a joblib file": Case(
        fitted(
            RandomizedSearchCV(
                make_pipeline(mixed(), Ridge()), {"ridge__alpha": [1, 10]}, n_iter=2, cv=2, random_state=0
            ),
            MIXED,
            frames.spent,
            expect.value,
            joblib_file,
        )
    ),
    "transformed target": Case(
        fitted(
            TransformedTargetRegressor(make_pipeline(mixed(), Ridge()), func=np.log, inverse_func=np.exp),
            MIXED,
            frames.spent,
            expect.value,
        )
    ),
    "extra trees, truth values": classifier(ExtraTreesClassifier(6, random_state=0), frames.churned),
    "support vectors, classes of any length": classifier(
        CalibratedClassifierCV(SVC(), ensemble=False),
        classes("", LONG, " "),
        expect.probabilities("p0", "p1", "p2"),
        outputs=("p0", "p1", "p2"),
    ),
    "neighbours, negative numbers": classifier(KNeighborsClassifier(4), classes(-1, 0, 7)),
    "naive Bayes, floats": Case(
        fitted(make_pipeline(scaled(), GaussianNB()), NUMBERS, classes(1.0, 2.0, -3.0), expect.probabilities())
    ),
    "perceptron, small integers": classifier(
        MLPClassifier((8,), max_iter=60, random_state=0), lambda c: frames.tier(c).astype(np.int8)
    ),
    "discriminants": Case(
        fitted(make_pipeline(scaled(), LinearDiscriminantAnalysis()), NUMBERS, strange, expect.probabilities())
    ),
    "trees by histogram, categories": Case(
        fitted(
            HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype"),
            ("age", "city", "debt", "grade"),
            strange,
            expect.probabilities(),
            dtypes={"city": "category", "grade": "category"},
        )
    ),
    "forest of several targets": Case(
        fitted(make_pipeline(mixed(), RandomForestRegressor(4, random_state=0)), MIXED, two_targets, expect.values())
    ),
    "tree of float32": Case(
        fitted(
            DecisionTreeRegressor(max_depth=4, random_state=0),
            ("age", "income"),
            frames.spent,
            expect.value,
            dtypes={"age": np.float32, "income": np.float32},
        )
    ),
    "regressors of many kinds, voting": Case(
        fitted(
            make_pipeline(
                mixed(),
                VotingRegressor(
                    [
                        ("net", ElasticNet(0.01)),
                        ("median", QuantileRegressor(alpha=0.01)),
                        ("svr", SVR()),
                        ("counts", PoissonRegressor(max_iter=500)),
                        ("tweedie", TweedieRegressor(max_iter=500)),
                        ("net of nets", MLPRegressor(hidden_layer_sizes=(6,), max_iter=50, random_state=0)),
                        ("gp", GaussianProcessRegressor()),
                        ("near", KNeighborsRegressor(3)),
                        ("huber", HuberRegressor()),
                        ("high", GradientBoostingRegressor(loss="quantile", n_estimators=3, random_state=0)),
                        ("pls", PLSRegression(2)),
                    ]
                ),
            ),
            MIXED,
            frames.spent,
            expect.value,
        )
    ),
    "classifiers of many kinds, stacked": Case(
        fitted(
            make_pipeline(
                mixed(),
                StackingClassifier(
                    [
                        ("bags", BaggingClassifier(DecisionTreeClassifier(), 3, random_state=0)),
                        ("stumps", AdaBoostClassifier(n_estimators=3, random_state=0)),
                        ("rest", OneVsRestClassifier(SVC())),
                        ("ridge", RidgeClassifier()),
                        ("near", KNeighborsClassifier()),
                        ("sgd", SGDClassifier(random_state=0)),
                        ("trees", HistGradientBoostingClassifier(max_iter=2)),
                    ],
                    RandomForestClassifier(4, random_state=0),
                    cv=2,
                    passthrough=True,
                ),
            ),
            MIXED,
            strange,
            expect.probabilities(),
        )
    ),
    "isotonic regression": Case(
        fitted(IsotonicRegression(out_of_bounds="clip"), ("age",), frames.spent, expect.value, inputs=("age",))
    ),
}
