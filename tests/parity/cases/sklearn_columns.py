"""scikit-learn pipelines over the columns of a DataFrame, picked and prepared in the ways that people do it."""

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_iterative_imputer
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from tests.parity import expect, frames
from tests.parity.case import Case
from tests.parity.cases.prepared import MIXED, columns_of, left, logistic, scaled, strange, words
from tests.parity.fitted import cloudpickle_file, fitted, in_notebook

assert enable_iterative_imputer is not None
ratio = in_notebook(lambda frame: frame.assign(ratio=frame["income"] / frame["age"]))
numeric = in_notebook(lambda frame: [name for name in frame.columns if frame[name].dtype.kind in "if"])


CASES = {
    "columns by name": Case(
        fitted(
            make_pipeline(columns_of((scaled(), ["age", "income", "debt"]), (words(), ["city", "grade"])), logistic()),
            MIXED,
            strange,
            expect.probabilities(),
        )
    ),
    "columns by name, unscaled forest": Case(
        fitted(
            make_pipeline(
                columns_of(
                    ("passthrough", ["debt"]),
                    (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"]),
                    ("drop", ["grade"]),
                    remainder="passthrough",
                ),
                RandomForestClassifier(8, random_state=0),
            ),
            MIXED,
            frames.tier,
            expect.probabilities(),
        )
    ),
    "columns by position": Case(
        fitted(
            make_pipeline(columns_of((scaled(), [0, 3]), (words(), [-2])), logistic()),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "columns by a slice of positions": Case(
        fitted(
            make_pipeline(columns_of((scaled(), slice(0, 4)), (words(), slice(4, 6))), logistic()),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "columns by a slice of names": Case(
        fitted(
            make_pipeline(columns_of((scaled(), slice("age", "debt")), (words(), slice("city", "grade"))), logistic()),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "columns by a mask": Case(
        fitted(
            make_pipeline(columns_of((scaled(), [True, False, True, True, False, False])), logistic()),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "columns by type": Case(
        fitted(
            make_pipeline(
                make_column_transformer(
                    (scaled(), make_column_selector(dtype_include=np.number)),
                    (words(), make_column_selector(dtype_exclude=np.number)),
                ),
                logistic(),
            ),
            MIXED,
            left,
            expect.probabilities(),
        )
    ),
    "columns by a function": Case(
        fitted(
            make_pipeline(columns_of((scaled(), numeric)), logistic()),
            MIXED,
            left,
            expect.probabilities(),
            cloudpickle_file,
        )
    ),
    "inputs typed in another order than trained": Case(
        fitted(
            make_pipeline(scaled(), logistic()),
            ("age", "income", "debt"),
            left,
            expect.probabilities(),
            inputs=("income", "debt", "age"),
        )
    ),
    "a bare matrix with names typed": Case(
        fitted(
            make_pipeline(scaled(), Ridge()),
            ("age", "income", "debt"),
            frames.spent,
            expect.value,
            x=lambda frame: frame.to_numpy(np.float64),
            inputs=("age", "income", "debt"),
        )
    ),
    "a bare matrix as an array column": Case(
        fitted(
            make_pipeline(scaled(), Ridge()),
            ("age", "income", "debt"),
            frames.spent,
            expect.value,
            x=lambda frame: frame.to_numpy(np.float64),
            built={"query": "SELECT id, ARRAY[age, income, debt] AS anything FROM {table}"},
        )
    ),
    "number codes, one-hot": Case(
        fitted(
            make_pipeline(columns_of((OneHotEncoder(), ["region"]), (scaled(), ["age"])), logistic()),
            ("region", "age"),
            left,
            expect.probabilities(),
        )
    ),
    "words, unknown refused": Case(
        fitted(
            make_pipeline(columns_of((OneHotEncoder(), ["city", "grade"])), logistic()),
            ("city", "grade"),
            left,
            expect.probabilities(),
        )
    ),
    "target encoder": Case(
        fitted(
            make_pipeline(columns_of((TargetEncoder(random_state=0), ["city", "region"])), logistic()),
            ("region", "city"),
            left,
            expect.probabilities(),
        )
    ),
    "bins, splines, polynomials": Case(
        fitted(
            make_pipeline(
                columns_of(
                    (KBinsDiscretizer(4, encode="onehot", quantile_method="averaged_inverted_cdf"), ["age"]),
                    (SplineTransformer(n_knots=4), ["income"]),
                    (make_pipeline(SimpleImputer(), PolynomialFeatures(2), RobustScaler()), ["debt", "visits"]),
                ),
                logistic(),
            ),
            ("age", "income", "visits", "debt"),
            left,
            expect.probabilities(),
        )
    ),
    "powers and quantiles": Case(
        fitted(
            make_pipeline(
                columns_of(
                    (PowerTransformer("box-cox"), ["income", "age"]),
                    (QuantileTransformer(n_quantiles=20), ["debt"]),
                    (FunctionTransformer(np.log1p), ["visits"]),
                ),
                SimpleImputer(),
                Ridge(),
            ),
            ("age", "income", "visits", "debt"),
            frames.spent,
            expect.value,
        )
    ),
    "logarithm alone": Case(
        fitted(
            make_pipeline(FunctionTransformer(np.log), LogisticRegression()),
            ("income", "age"),
            left,
            expect.probabilities(),
        )
    ),
    "missing indicators": Case(
        fitted(
            make_pipeline(
                make_union(SimpleImputer(add_indicator=True), MissingIndicator(features="all")),
                MinMaxScaler(),
                logistic(),
            ),
            ("age", "debt"),
            left,
            expect.probabilities(),
        )
    ),
    "neighbours and iterations impute": Case(
        fitted(
            make_pipeline(
                columns_of(
                    (KNNImputer(), ["age", "debt"]), (IterativeImputer(random_state=0), ["income", "visits", "debt"])
                ),
                StandardScaler(),
                Ridge(),
            ),
            ("age", "income", "visits", "debt"),
            frames.spent,
            expect.value,
        )
    ),
    "pandas between the steps": Case(
        fitted(
            lambda: make_pipeline(
                columns_of(
                    (SimpleImputer(), ["income", "age"]),
                    (words().set_params(sparse_output=False), ["grade"]),
                    verbose_feature_names_out=False,
                ),
                FunctionTransformer(ratio),
                StandardScaler(),
                logistic(),
            ).set_output(transform="pandas"),
            ("age", "grade", "income"),
            left,
            expect.probabilities(),
            cloudpickle_file,
        )
    ),
    "names used by the first step": Case(
        fitted(
            make_pipeline(FunctionTransformer(ratio), SimpleImputer(), StandardScaler(), logistic()),
            ("age", "income"),
            left,
            expect.probabilities(),
            cloudpickle_file,
        )
    ),
}
