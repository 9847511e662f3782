"""The halving search: every item is attempted or found, whatever fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebeat.core.bisect import Done, Failed, bisect


class Bad(Exception):
    """An item that cannot be done."""


class Away(Exception):
    """Not about an item."""


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))), st.booleans())
def test_each_item_is_done_or_fails_alone(case: tuple[int, set[int]], attempted_before: bool) -> None:
    count, bad = case
    attempts: list[range] = []

    def attempt(part: range) -> list[int]:
        attempts.append(part)
        if bad.intersection(part):
            raise Bad(min(bad.intersection(part)))
        return [*part]

    before = Bad("all") if attempted_before and bad else None
    found = [*bisect(count, attempt, failed=before)]

    done = [index for part in found if isinstance(part, Done) for index in part.result]
    failed = [part.index for part in found if isinstance(part, Failed)]
    assert failed == sorted(bad)
    assert done == [index for index in range(count) if index not in bad]
    assert (range(count) in attempts) is (before is None)
    assert len(attempts) == len(set(attempts))


@pytest.mark.parametrize("at", [0, 6, 9])
def test_an_error_that_is_not_about_items_ends_the_search(at: int) -> None:
    def attempt(part: range) -> None:
        if part == range(at, at + 1):
            raise Away
        raise Bad

    with pytest.raises(Away):
        list(bisect(10, attempt, lambda error: isinstance(error, Bad)))


def test_no_item_is_attempted_once_and_its_error_is_raised() -> None:
    assert [*bisect(0, len)] == [Done(range(0), 0)]

    def attempt(part: range) -> None:
        raise Bad(len(part))

    with pytest.raises(Bad, match="0"):
        list(bisect(0, attempt))


def test_a_caller_that_looks_for_one_failure_stops_early() -> None:
    attempts = 0

    def attempt(part: range) -> None:
        nonlocal attempts
        attempts += 1
        if 3 in part:
            raise Bad

    first = next(part for part in bisect(1024, attempt) if isinstance(part, Failed))

    assert first.index == 3
    assert attempts <= 2 * 10 + 1
