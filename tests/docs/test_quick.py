"""`make test` leaves out many cases of what it shows, and none that shows a guarantee."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import named_tests, not_quick, require_guarantees
from tests.docs.pages import REPOSITORY

WIDE = pytest.mark.wide.mark


class Collected:
    """What the rules read of a test that pytest collected."""

    def __init__(self, path: str, name: str, *marks: Any) -> None:
        self.path, self.name = Path(path), name
        self._marks = {mark.name: mark for mark in marks}

    def get_closest_marker(self, name: str) -> Any:
        return self._marks.get(name)


def found(*tests: Collected) -> list[Any]:
    return list(tests)


def test_a_wide_test_is_left_out_unless_the_guarantees_name_it() -> None:
    named = next(name for name in sorted(named_tests()) if not list(REPOSITORY.glob(f"tests/**/{name}.py")))
    file = next(name for name in sorted(named_tests()) if list(REPOSITORY.glob(f"tests/**/{name}.py")))
    wide = Collected("tests/a/test_a.py", "test_one[7]", WIDE)
    kept = [
        Collected("tests/a/test_a.py", "test_two"),
        Collected("tests/a/test_a.py", f"{named}[7]", WIDE),
        Collected(f"tests/a/{file}.py", "test_three", WIDE),
    ]

    assert not_quick(found(wide, *kept)) == found(wide)


def test_a_wide_test_may_run_every_nth_case() -> None:
    cases = [
        Collected("tests/a/test_a.py", f"test_one[{number}]", pytest.mark.wide(every=3).mark) for number in range(7)
    ]

    left_out = {test.name for test in not_quick(found(*cases))}

    assert [test.name for test in cases if test.name not in left_out] == [
        "test_one[0]", "test_one[3]", "test_one[6]"
    ]  # fmt: skip


def test_make_test_stops_if_a_guarantee_has_no_test() -> None:
    tests = [Collected("tests/a/test_a.py", name) for name in sorted(named_tests())]

    require_guarantees(found(*tests))
    with pytest.raises(pytest.UsageError, match=tests[3].name):
        require_guarantees(found(*tests[:3], *tests[4:]))
