"""Rows as a team's notebook has them: customers with numbers, texts, codes, truth values and times."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TRAINING_ROWS, ROWS = 240, 130
CITIES = ("Ghent", "Zürich", "L'Aquila", 'say "Oslo"', "São Paulo", "New York")
NEVER_SEEN = ("Kraków", "", "x" * 5_000)
GRADES = ("C", "A", "B")
REGIONS = (10, 20, 30, 7)
WORDS = ("good", "bad", "slow", "friendly", "Zoë", "naïve", "it's", "refund", "again", "never")
LACKS = {"debt": 0.2, "city": 0.1, "vip": 0.2}
"""The columns with missing values in training, and how many."""
TYPES = {"visits": "bigint", "debt": "bigint", "region": "bigint"}
"""Their types in PostgreSQL: pandas makes floats of whole numbers with missing values."""


def customers(rows: int = TRAINING_ROWS, seed: int = 1) -> Any:
    """Training rows; where a value lacks there is what pandas puts there."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2024-02-28 22:30:00.123456")
    frame = pd.DataFrame(
        {
            "age": rng.normal(45, 15, rows).clip(18, 90).round(1),
            "income": rng.lognormal(10, 0.5, rows),
            "visits": rng.integers(0, 12, rows),
            "debt": rng.integers(0, 5_000, rows).astype(float),
            "city": rng.choice(CITIES, rows),
            "grade": rng.choice(GRADES, rows, p=[0.5, 0.3, 0.2]),
            "region": rng.choice(REGIONS, rows),
            "active": rng.random(rows) < 0.7,
            "vip": pd.Series(rng.random(rows) < 0.4, dtype=object),
            "joined": pd.Series(start + pd.to_timedelta(rng.integers(0, 10**9, rows), unit="s")).astype(
                "datetime64[us]"
            ),
            "review": [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(rows)],
        }
    )
    for name, share in LACKS.items():
        frame.loc[rng.random(rows) < share, name] = None if name == "vip" else np.nan
    return frame


def today(columns: Sequence[str], *, nulls: bool = True) -> Any:
    """Other rows to score: each column lacks in some rows, one row lacks everything; cities that were never seen."""
    frame = customers(ROWS, seed=2)
    for at, city in enumerate(NEVER_SEEN):
        frame.loc[20 + at, "city"] = city
    frame = frame[[*columns]]
    return with_nulls(frame) if nulls else frame


def with_nulls(frame: Any) -> Any:
    """The same rows with missing values, and the types that such columns have in pandas."""
    lacking = frame.copy()
    for at, name in enumerate(frame.columns):
        rows = [5, 40 + at, 60 + 2 * at, len(frame) - 1 - at]
        column = lacking[name]
        if column.dtype.kind == "i":
            column = column.astype(np.float64)
        if column.dtype.kind == "b":
            column = column.astype(object)
        column.iloc[rows] = None if column.dtype == object else np.nan
        lacking[name] = column
    return lacking


def churned(frame: Any) -> NDArray[np.bool_]:
    """Whether the customer left: a truth value a row."""
    chance = 1 / (1 + np.exp(-_score(frame)))
    return np.asarray(np.random.default_rng(3).random(len(frame)) < chance)


def tier(frame: Any) -> NDArray[np.int64]:
    """One of three classes: 0, 1, 2."""
    noise = np.random.default_rng(4).normal(0, 0.5, len(frame))
    return np.asarray(np.digitize(_score(frame) + noise, [-0.5, 0.7]))


def spent(frame: Any) -> NDArray[np.float64]:
    """A number above zero."""
    noise = np.random.default_rng(5).normal(0, 0.3, len(frame))
    return np.asarray(np.exp(0.5 * _score(frame) + noise))


def named(classes: Sequence[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """The classes of those numbers."""
    found: NDArray[Any] = np.asarray(classes)[numbers.astype(int)]
    return found


def _score(frame: Any) -> Any:
    city = frame["city"].isin(["Ghent", "L'Aquila"]).astype(float)
    debt = frame["debt"].fillna(2_000) / 2_500 - 1
    return (
        (frame["age"] - 45) / 15
        + np.log(frame["income"]) - 10
        + debt
        + city
        - (frame["grade"] == "A") * 0.8
        + frame["region"].isin([10, 7]) * 0.7
        - frame["vip"].isin([True]) * 0.5
        + frame["review"].str.contains("bad") * 0.6
    )  # fmt: skip
