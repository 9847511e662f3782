"""Arguments of the Python API: what a data scientist passes is taken as it is meant, anything else is refused."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scorebeat.client import values
from scorebeat.core.errors import UsageError


class Number(int, Enum):
    TWELVE = 12


class Grade(IntEnum):
    HIGH = 3


class Letter(StrEnum):
    FIRST = "a"


class Word(str, Enum):  # noqa: UP042 -- another `str()` than StrEnum has
    FIRST = "a"


FRAME = pd.DataFrame({"id": [4, 5], "name": ["k4", "k5"]})
INSTANT = np.datetime64("2026-01-07T03:00:00", "ns")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([42, "x", True], [("42",), ("x",), ("true",)]),
        ([Number.TWELVE, Grade.HIGH, Letter.FIRST, Word.FIRST], [("12",), ("3",), ("a",), ("a",)]),
        ([np.int64(42), np.str_("x"), np.bool_(True)], [("42",), ("x",), ("true",)]),
        ([INSTANT, INSTANT.astype("datetime64[D]")], [("2026-01-07T03:00:00",), ("2026-01-07",)]),
        ([pd.Timestamp("2026-01-07 03:00", tz="UTC")], [("2026-01-07T03:00:00+00:00",)]),
        ([date(2026, 1, 7)], [("2026-01-07",)]),
        ([UUID(int=7), Decimal("1.50")], [("00000000-0000-0000-0000-000000000007",), ("1.50",)]),
        ([b"k", bytearray(b"k"), memoryview(b"k")], [("\\x6b",)] * 3),
        ((n for n in (1, 2)), [("1",), ("2",)]),
        (FRAME["id"], [("4",), ("5",)]),
        (FRAME[["id"]].to_numpy(), [("4",), ("5",)]),
        (FRAME.to_numpy(), [("4", "k4"), ("5", "k5")]),
        (FRAME.to_records(index=False), [("4", "k4"), ("5", "k5")]),
        (FRAME.itertuples(index=False), [("4", "k4"), ("5", "k5")]),
        (pa.chunked_array([[4, 5]]), [("4",), ("5",)]),
    ],
)  # fmt: skip
def test_keys_of_every_kind_are_the_texts_of_the_ledger(keys: Any, wanted: list[tuple[str, ...]]) -> None:
    assert list(values.keys_of(keys)) == wanted


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (FRAME, r"a DataFrame; expected several keys, .* of a DataFrame df\['id'\]"),
        ({"id": [4]}, "a dict; expected several keys"),
        (pa.table({"id": [4]}), "Table; expected several keys"),
        ([np.timedelta64(5, "ns")], "a timedelta; expected"),
        ([1.5], "a float; expected"),
        ([time(3)], "a date or a datetime, or a sequence of one a key column"),
        ([None], "a NoneType; expected"),
        ([INSTANT + 1], "keys.0 is .*000000001, with nanoseconds, and PostgreSQL keeps microseconds"),
        ([pd.Timestamp(INSTANT + 1)], "keys.0 is .*000000001, with nanoseconds, and PostgreSQL keeps microseconds"),
        (["a\0"], "keys.0 is .* that PostgreSQL cannot hold"),
        (["\ud800"], "keys.0 is .* that PostgreSQL cannot hold"),
    ],
)
def test_values_that_are_no_list_of_keys_are_refused(keys: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        values.keys_of(keys)


@pytest.mark.parametrize(
    ("timeout", "wanted"),
    [
        (5, 5.0),
        (np.float32(0.5), 0.5),
        (Fraction(1, 2), 0.5),
        (timedelta(minutes=1), 60.0),
        (np.timedelta64(2, "ns"), 0.0),
        (None, None),
    ],
)
def test_a_time_out_is_a_number_of_seconds(timeout: Any, wanted: float | None) -> None:
    assert values.seconds_of("timeout", timeout) == wanted


@pytest.mark.parametrize("timeout", [float("nan"), True, "5", datetime(2026, 1, 7, tzinfo=UTC)])
def test_a_value_that_is_no_number_of_seconds_is_refused(timeout: Any) -> None:
    with pytest.raises(UsageError, match=r"timeout is .* expected a number of seconds, a timedelta"):
        values.seconds_of("timeout", timeout)


@pytest.mark.parametrize("count", [0, -1, True, 1.0, "1", None, 2**80, np.timedelta64(5, "s")])
def test_a_wrong_count_is_refused_with_both_bounds(count: Any) -> None:
    with pytest.raises(UsageError, match=r"limit is .*; expected a number of rows, from 1 to 9223372036854775807"):
        values.count_of("limit", count, "a number of rows", least=1)


@pytest.mark.parametrize("inputs", [{"visits": "float64"}, FRAME, "a,b", b"a", 5])
def test_texts_come_as_a_list_of_them(inputs: Any) -> None:
    with pytest.raises(UsageError, match=r"(?s)inputs is .*; expected a list of texts"):
        values.texts_of("inputs", inputs)


@pytest.mark.parametrize("text", ["a\0", "a\ud800"])
def test_a_text_that_postgresql_cannot_hold_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"run_key is .* that PostgreSQL cannot hold. Nothing was done"):
        values.require_texts(run_key=text)


def test_parameters_are_the_texts_that_a_person_types() -> None:
    found = values.parameters_of(
        {"since": INSTANT, "least": np.float64(1.5), "count": np.int64(3), "name": Letter.FIRST}
    )

    assert found == {"since": "2026-01-07T03:00:00", "least": "1.5", "count": "3", "name": "a"}
