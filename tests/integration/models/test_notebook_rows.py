"""A model is compared with its library over the rows of `pandas.read_sql`, not over any conversion of ours."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import psycopg2
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sqlalchemy import Engine

from scorebeat.core.errors import StoreError
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.versions import publish as publishing
from scorebeat.producer.versions.sample_job import SampleJob

pytestmark = pytest.mark.wide

ROWS = 60
QUERY = "SELECT id, d, z, ok, n, r, v FROM shop"
HOLIDAYS = {dt.date(2026, 1, 6), dt.date(2026, 5, 1)}


@pytest.fixture
def shop(engine: Engine, producer: Producer) -> str:
    """A table with a date, a time of a zone, a truth value and a whole number that may lack, a real and an array."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE shop (id bigint PRIMARY KEY, d date, z timestamptz, ok bool, n int, r real, v real[]);"
            " INSERT INTO shop SELECT i, date '2026-01-01' + i * 5,"
            f" timestamptz '2026-01-01 08:00+00' + i * interval '5 d', nullif(i % 3, 2)::bool,"
            f" nullif(i % 7, 6), i * 0.1, ARRAY[i * 0.1, 0.7] FROM generate_series(1, {ROWS}) i"
        )
    apply(producer, [Job(name="shop", query=QUERY, key=("id",), model="shop")], "test")
    return "shop"


def read_sql(settings: Settings) -> Any:
    """As a notebook does."""
    connection = psycopg2.connect(settings.database().replace("postgresql+psycopg2:", "postgresql:"))
    try:
        return pd.read_sql_query(f"{QUERY} ORDER BY id", connection)
    finally:
        connection.close()


def added(producer: Producer, folder: Path, model: Any, *inputs: str) -> publishing.Added:
    (folder / "m.pkl").write_bytes(cloudpickle.dumps(model))
    options = AddOptions(inputs=inputs, code=frozenset({"pickle"}))
    return publishing.add(producer, folder / "m.pkl", "shop", "test", options, SampleJob(producer, "shop", ROWS))


def fitted(function: Callable[[Any], Any], columns: list[str], settings: Settings) -> Any:
    function.__module__ = "__main__"  # cloudpickle takes its code along
    frame = read_sql(settings)[columns]
    return make_pipeline(FunctionTransformer(function), LinearRegression()).fit(frame, np.arange(ROWS))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("function", "columns", "inputs"),
    [
        (lambda x: x[["d"]].map(lambda day: float(day in HOLIDAYS)), ["d"], ["d:date32"]),
        (lambda x: x[["d"]].map(lambda day: len(str(day))), ["d"], ["d:date32"]),
        (lambda x: x[["ok"]].map(lambda ok: {"True": 1.0, "False": 0.0, "None": 0.5}[str(ok)]), ["ok"], ["ok:bool"]),
        (lambda x: np.c_[x["ok"].isin([None]), x["r"] * 3], ["ok", "r"], ["ok:bool", "r"]),
        (lambda x: x[["r"]].map(lambda value: len(repr(float(value)))), ["r"], ["r:float64"]),
    ],
    ids=["a set of dates", "dates as texts", "truth values as texts", "none among values", "digits of a real"],
)
def test_own_code_sees_what_a_notebook_shows_it(
    producer: Producer, settings: Settings, tmp_path: Path, function: Callable[[Any], Any], columns: list[str],
    inputs: list[str],
) -> None:  # fmt: skip
    model = fitted(function, columns, settings)

    made = added(producer, tmp_path, model, *inputs)

    assert str(made.artifact.evidence).startswith(f"{ROWS} rows of job shop: agree with the library")
    assert made.version.published


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("inputs", [[], ["d:date32"]], ids=["by the file", "as declared"])
def test_dates_that_an_encoder_learnt_are_found_again(
    producer: Producer, settings: Settings, tmp_path: Path, inputs: list[str]
) -> None:
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(read_sql(settings)[["d"]], np.arange(ROWS))

    made = added(producer, tmp_path, model, *inputs)

    scored = registry.load(made.artifact).predict(SampleJob(producer, "shop", ROWS).read(made.artifact.signature).rows)
    assert scored["value"].to_pylist() == pytest.approx(list(range(ROWS)), abs=1e-6)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("function", "columns", "inputs"),
    [
        (lambda x: np.c_[~x["ok"].fillna(False)], ["ok"], ["ok:bool"]),
        (lambda x: np.c_[[50.0 * ("." in str(n)) + np.nan_to_num(n) for n in x["n"]]], ["n"], ["n:int64"]),
        (lambda x: np.c_[[each.hour for each in x["z"]]], ["z"], ["z:timestamp[us]"]),
    ],
    ids=["objects of truth values", "floats of whole numbers", "a zone that is not there"],
)
def test_rows_that_a_notebook_would_score_differently_are_refused(
    producer: Producer, settings: Settings, tmp_path: Path, function: Callable[[Any], Any], columns: list[str],
    inputs: list[str],
) -> None:  # fmt: skip
    with pytest.raises(Exception, match=r"would be scored otherwise than by its own library|cannot become") as error:
        added(producer, tmp_path, fitted(function, columns, settings), *inputs)

    assert isinstance(error.value, StoreError) or "SignatureError" in repr(error)


@pytest.mark.usefixtures("shop")
def test_a_zone_that_training_had_is_no_difference(producer: Producer, settings: Settings, tmp_path: Path) -> None:
    function = lambda x: np.c_[x["z"].dt.hour]  # noqa: E731 -- cloudpickle takes its code along
    function.__module__ = "__main__"
    frame = read_sql(settings)[["z"]]
    local = frame.assign(z=pd.to_datetime(frame["z"], utc=True).dt.tz_convert("America/New_York"))
    model = make_pipeline(FunctionTransformer(function), LinearRegression()).fit(local, np.arange(ROWS))

    made = added(producer, tmp_path, model, "z:datetime64[us, America/New_York]")

    assert str(made.artifact.evidence).startswith(f"{ROWS} rows of job shop: agree with the library")
