"""Names of prediction tables: short, readable and never shared."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.identifiers import LONGEST_IDENTIFIER, MODEL_NAME
from scorebeat.core.jobs.job import JOB_NAME, LONGEST_JOB_NAME
from scorebeat.core.table_names import prediction_table

pytestmark = pytest.mark.wide(slow=4)

JOBS = st.from_regex(JOB_NAME, fullmatch=True).filter(lambda name: len(name) <= LONGEST_JOB_NAME)
MODELS = st.from_regex(MODEL_NAME, fullmatch=True).filter(lambda name: len(name) <= LONGEST_IDENTIFIER)
NUMBERS = st.integers(1, 2**31 - 1)
SETS = st.tuples(JOBS, MODELS, NUMBERS, st.none() | NUMBERS)


def test_a_name_holds_job_model_version_and_generation() -> None:
    assert prediction_table("iris", "iris", 3, None) == "iris__iris_v3"
    assert prediction_table("iris", "iris", 3, 2) == "iris__iris_v3_g2"


def test_a_long_name_keeps_its_beginning_and_its_numbers() -> None:
    name = prediction_table("customers_at_risk_of_leaving", "gradient_boosting_calibrated", 12, 345)

    assert re.fullmatch(r"customers_at_risk_of_leaving__gradien\w*_[0-9a-f]{12}_v12_g345", name)
    assert len(name) == 63


def test_a_name_stays_the_same_between_releases() -> None:
    assert prediction_table("j" * 40, "m" * 40, 1, 2) == f"{'j' * 40}__mm_c22f78c7d037_v1_g2"


@given(SETS)
def test_no_name_is_longer_than_postgresql_keeps(key: tuple[str, str, int, int | None]) -> None:
    name = prediction_table(*key)

    assert len(name.encode()) <= 63
    assert re.fullmatch("[a-z][a-z0-9_]*", name)


@given(SETS, SETS)
def test_two_sets_never_share_a_name(
    one: tuple[str, str, int, int | None], other: tuple[str, str, int, int | None]
) -> None:
    assert (prediction_table(*one) == prediction_table(*other)) == (one == other)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[ab](_v1|_g2|_b|b){0,3}", fullmatch=True),
            st.from_regex(r"[ab](__|_v1|_g2|_|b){0,3}", fullmatch=True),
            st.integers(1, 22),
            st.none() | st.integers(1, 22),
        ),
        unique=True,
        min_size=2,
        max_size=20,
    )
)
def test_not_even_names_made_to_be_alike_are_shared(keys: list[tuple[str, str, int, int | None]]) -> None:
    assert len({prediction_table(*key) for key in keys}) == len(keys)


LONG_END = st.text("abc_", min_size=1, max_size=3)


@given(LONG_END, LONG_END, st.integers(1, 99), st.integers(1, 99))
def test_names_that_differ_only_where_they_are_cut_are_not_shared(a: str, b: str, v: int, g: int) -> None:
    one, other = prediction_table("j" * 40, "m" * 50 + a, v, g), prediction_table("j" * 40, "m" * 50 + b, v, g)

    assert (one == other) == (a == b)
