"""scikit-learn pipelines over truth values, dates, times, and columns with names that are hard on SQL."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from tests.parity import expect, frames
from tests.parity.case import Case
from tests.parity.cases.prepared import columns_of, left, logistic, scaled, words
from tests.parity.fitted import Save, cloudpickle_file, fitted, in_notebook, joblib_file

ODD = {"age": 'it\'s "age"', "income": "Größe (cm)", "city": "SELECT city", "debt": "a.b"}

clock = in_notebook(lambda frame: pd.DataFrame({"hour": frame["joined"].dt.hour, "day": frame["joined"].dt.dayofweek}))
since = in_notebook(lambda frame: (frame[["joined"]] - pd.Timestamp("2020-01-01")) / pd.Timedelta(days=1))
nanoseconds = in_notebook(
    lambda frame: pd.DataFrame({"at": frame["joined"].astype("int64").where(frame["joined"].notna()) / 1e18})
)
weekday = in_notebook(lambda frame: pd.DataFrame({"day": pd.to_datetime(frame["joined"]).dt.dayofweek}))
in_spring = in_notebook(
    lambda frame: frame[["joined"]].map(lambda day: float(day is not None and str(day)[5:7] in ("03", "04", "05")))
)
as_words = in_notebook(lambda frame: frame[["vip"]].map(str))
last_digits = in_notebook(lambda frame: frame % 1000)
one_or_none = in_notebook(lambda frame: frame.astype(float))


class Clipped(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """A transformer that a team wrote in its notebook, for named columns."""

    def fit(self, frame: Any, y: Any = None) -> "Clipped":
        del y
        self.top_ = frame.quantile(0.9)
        self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        self.n_features_in_ = frame.shape[1]
        return self

    def transform(self, frame: Any) -> Any:
        return frame.clip(upper=self.top_, axis=1).fillna(self.top_)


in_notebook(Clipped)


def timed(step: Any, column: str, typed: str, **more: Any) -> Case:
    """A function over timestamps, then a ridge."""
    return Case(
        fitted(
            make_pipeline(columns_of((step, ["joined"]), (scaled(), ["age"])), SimpleImputer(), Ridge()),
            ("age", "joined"),
            frames.spent,
            expect.value,
            cloudpickle_file,
            dtypes={"joined": column},
            inputs=(f"joined:{typed}", "age"),
            **more,
        )
    )


def dates(frame: Any) -> Any:
    """The same with Python's dates, as psycopg returns them."""
    days = frame["joined"].dt.date.astype(object)
    return frame.assign(joined=days.where(frame["joined"].notna(), None))


def dated(model: Any, save: Save = cloudpickle_file) -> Case:
    """A model over the dates alone."""
    return Case(
        fitted(
            model,
            ("joined",),
            frames.spent,
            expect.value,
            save,
            x=dates,
            inputs=("joined:date32",),
            built={"types": {"joined": "date"}},
        )
    )


CASES = {
    "truth values": Case(
        fitted(
            HistGradientBoostingClassifier(max_iter=5),
            ("age", "active", "vip"),
            left,
            expect.probabilities(),
            inputs=("age", "active:bool", "vip:bool"),
        )
    ),
    "truth values or none, one-hot": Case(
        fitted(
            make_pipeline(columns_of((OneHotEncoder(), ["vip"]), (scaled(), ["age"])), logistic()),
            ("age", "vip"),
            left,
            expect.probabilities(),
            inputs=("age", "vip:bool"),
        )
    ),
    "truth values as numbers": Case(
        fitted(
            make_pipeline(FunctionTransformer(one_or_none), SimpleImputer(strategy="most_frequent"), logistic()),
            ("active", "vip"),
            left,
            expect.probabilities(),
            cloudpickle_file,
            inputs=("active:bool", "vip:bool"),
        )
    ),
    "a real column, one-hot": Case(
        fitted(
            make_pipeline(
                columns_of((OneHotEncoder(handle_unknown="ignore"), ["age"]), (scaled(), ["income"])), logistic()
            ),
            ("age", "income"),
            left,
            expect.probabilities(),
            built={"types": {"age": "real"}},
        )
    ),
    "whole numbers that float64 rounds": Case(
        fitted(
            make_pipeline(FunctionTransformer(last_digits), scaled(), logistic()),
            ("visits", "region"),
            left,
            expect.probabilities(),
            cloudpickle_file,
            x=lambda frame: frame.assign(visits=2**53 + frame["visits"]),
            inputs=("visits:int64", "region:int64"),
            nulls=False,
            built={"query": f"SELECT id, region, {2**53} + visits AS visits FROM {{table}}"},
        )
    ),
    "timestamps": timed(FunctionTransformer(clock), "datetime64[us]", "timestamp[us]"),
    "timestamps of nanoseconds": timed(FunctionTransformer(nanoseconds), "datetime64[ns]", "datetime64[ns]"),
    "timestamps of UTC": Case(
        fitted(
            make_pipeline(columns_of((FunctionTransformer(clock), ["joined"])), SimpleImputer(), Ridge()),
            ("joined",),
            frames.spent,
            expect.value,
            cloudpickle_file,
            x=lambda frame: frame.assign(joined=frame["joined"].dt.tz_localize("UTC")),
            inputs=("joined:timestamp[us, UTC]",),
            built={"types": {"joined": "timestamptz"}},
        )
    ),
    "timestamps of a zone": Case(
        fitted(
            make_pipeline(columns_of((FunctionTransformer(clock), ["joined"])), SimpleImputer(), Ridge()),
            ("joined",),
            frames.spent,
            expect.value,
            cloudpickle_file,
            x=lambda frame: frame.assign(joined=frame["joined"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
            inputs=("joined:datetime64[us, Asia/Tokyo]",),
            built={"types": {"joined": "timestamptz"}},
        )
    ),
    "dates": dated(make_pipeline(columns_of((FunctionTransformer(weekday), ["joined"])), SimpleImputer(), Ridge())),
    "dates, one-hot": dated(
        make_pipeline(columns_of((OneHotEncoder(handle_unknown="ignore"), ["joined"])), Ridge()), joblib_file
    ),
    "dates in a set": dated(make_pipeline(FunctionTransformer(in_spring), Ridge())),
    "truth values as words": Case(
        fitted(
            make_pipeline(FunctionTransformer(as_words), OneHotEncoder(), logistic()),
            ("vip",),
            left,
            expect.probabilities(),
            cloudpickle_file,
            inputs=("vip:bool",),
        )
    ),
    "names that are hard on SQL": Case(
        fitted(
            make_pipeline(
                columns_of((scaled(), [ODD["income"], ODD["debt"], ODD["age"]]), (words(), [ODD["city"]])), logistic()
            ),
            ("age", "income", "city", "debt"),
            left,
            expect.probabilities(),
            named=ODD,
        )
    ),
    "a transformer of one's own": Case(
        fitted(
            lambda: make_pipeline(Clipped(), logistic()),
            ("age", "debt"),
            left,
            expect.probabilities(),
            cloudpickle_file,
        )
    ),
}
