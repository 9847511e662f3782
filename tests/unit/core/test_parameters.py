"""A parameter's value that a program sets has the type and the text of the same value in jobs.toml."""

from decimal import Decimal
from enum import IntEnum

import numpy as np
import pytest

from scorebeat.core.jobs.parameters import Parameter


class Grade(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "same"),
    [(np.int64(5), 5), (Grade.HIGH, 3), (np.float64(1.5), 1.5), (np.float64("nan"), float("nan")), (np.str_("x"), "x")],
)
def test_a_value_of_numpy_or_an_enumeration_is_the_value_of_python(value: object, same: object) -> None:
    assert Parameter.of(value) == Parameter.of(same)


@pytest.mark.parametrize("value", [Decimal(5), None, object()])
def test_a_value_that_is_none_of_toml_is_named_with_its_type(value: object) -> None:
    with pytest.raises(ValueError, match=f"is .*, a {type(value).__name__}; expected a string, a number"):
        Parameter.of(value)
