"""A NULL is blamed only where the model scores the row with a value instead."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from scorebeat.core.errors import InputError, SignatureError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from scorebeat.online import plain_rows

TABLE = pd.DataFrame(
    {
        "age": [31.0, np.nan, 64.0, 22.0] * 5,
        "rooms": [1.0, 2.0, 3.0, 4.0] * 5,
        "city": ["Ghent", "Oslo", "Lyon", "Ghent"] * 5,
    }
)


@pytest.fixture
def tenants(tmp_path: Path) -> Artifact:
    """Takes a NULL for age, none for rooms, and only cities that it knows."""
    columns = ColumnTransformer(
        [("a", SimpleImputer(), ["age"]), ("r", "passthrough", ["rooms"]), ("c", OneHotEncoder(), ["city"])]
    )
    return added(tmp_path, make_pipeline(columns, LogisticRegression()).fit(TABLE, ["a", "b", "b", "a"] * 5))


def added(folder: Path, model: Any, **options: Any) -> Artifact:
    joblib.dump(model, folder / "m.joblib")
    return store.add(folder / "store", folder / "m.joblib", "m", AddOptions(code=frozenset({"pickle"}), **options))


def error_of(artifact: Artifact, *rows: dict[str, Any]) -> Exception:
    batch = pa.RecordBatch.from_pylist(list(rows), schema=artifact.signature.columns)
    with pytest.raises((InputError, ValueError)) as raised:
        score_rows.predict(registry.load(artifact), batch)
    return raised.value


def test_a_row_that_fails_for_an_unknown_word_is_not_blamed_on_a_null_elsewhere(tenants: Artifact) -> None:
    error = error_of(tenants, {"age": None, "rooms": 1.0, "city": "Paris"})

    assert type(error) is ValueError
    assert "Found unknown categories ['Paris']" in str(error)
    assert "NULL" not in str(error)


def test_the_models_own_error_comes_first_and_only_the_column_that_matters_is_named(tenants: Artifact) -> None:
    error = error_of(tenants, {"age": None, "rooms": None, "city": "Oslo"})

    assert isinstance(error, InputError)
    assert str(error).startswith("ValueError: Input X contains NaN. rooms has 1 NULL, NaN or infinite values, and with")
    assert error.columns == ("rooms",)


def test_a_null_among_words_is_to_blame_where_a_word_of_training_is_none(tmp_path: Path) -> None:
    model = make_pipeline(ColumnTransformer([("c", OneHotEncoder(), ["city"])]), LogisticRegression())
    artifact = added(tmp_path, model.fit(TABLE[["city"]], ["a", "b", "b", "a"] * 5))

    error = error_of(artifact, {"city": None})

    assert isinstance(error, InputError)
    assert str(error).startswith("ValueError: Found unknown categories [nan] in column 0 during transform. city has 1")


def test_rows_without_a_value_are_blamed_among_others_and_counted(tmp_path: Path) -> None:
    artifact = added(tmp_path, LinearRegression().fit(TABLE[["rooms"]], range(20)))

    error = error_of(artifact, *({"rooms": value} for value in (None, 1.0, float("inf"), None)))

    assert isinstance(error, InputError)
    assert "rooms has 3 NULL, NaN or infinite values" in str(error)


def test_an_array_with_a_null_is_blamed_as_a_whole(tmp_path: Path) -> None:
    artifact = added(tmp_path, LinearRegression().fit(TABLE[["rooms", "rooms"]].to_numpy(), range(20)))

    error = error_of(artifact, {"features": [1.0, None]})

    assert isinstance(error, InputError)
    assert "features has 1 NULL" in str(error)


def test_a_row_over_http_reports_the_models_error_and_then_the_relevant_null(tenants: Artifact) -> None:
    good = {"age": 1.0, "rooms": 1.0, "city": "Oslo"}

    with pytest.raises(SignatureError) as error:
        plain_rows.predict(registry.load(tenants), tenants.signature, [good, good | {"age": None, "rooms": None}])

    message = str(error.value)
    assert (
        message
        == "row 1: the model raised ValueError: Input X contains NaN; rooms is null, which the model does not take"
    )
    with pytest.raises(Exception, match=r"row 1: the model raised ValueError: Found unknown categories \['Paris'\]"):
        plain_rows.predict(registry.load(tenants), tenants.signature, [good, good | {"age": None, "city": "Paris"}])
