"""What a failed profile means for each condition of a gate."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.closing import gates
from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.closing.run_profiles import Judged
from scorebeat.db.ledger.runs import Run
from scorebeat.drift.finding import Finding


@dataclass
class OfJob:
    """What a gate reads of a run."""

    job: Job


@pytest.mark.parametrize(
    ("gate", "holds"),
    [
        ({"drift": "hold"}, True),
        ({"constant": "hold"}, True),
        ({"missing": 0.1}, True),  # NULL and NaN outputs are counted in the profile
        ({"min_rows": 1}, False),
        (None, False),
    ],
)
def test_each_condition_that_needs_a_profile_holds_a_run_whose_profile_failed(gate: Any, holds: bool) -> None:
    run = cast("Run", OfJob(Job(name="a", query="SELECT 1", key=("id",), model="m", gate=gate)))
    tally = Tally(1, 0, 0, 0, 5_000, None, True, None)
    failed, small = Judged(failure="a date is out of range"), Judged(why_not="the sample has 10 rows")
    assert gates.reasons(run, tally, failed) == ["it could not be compared: a date is out of range"] * holds
    assert gates.not_compared(run, failed) == "a date is out of range"
    assert gates.reasons(run, tally, small) == []
    assert gates.not_compared(run, small) == ("the sample has 10 rows" if gate == {"drift": "hold"} else None)


def test_a_reason_names_some_of_many_drifted_columns_and_counts_the_others() -> None:
    gate: Any = {"drift": "hold"}
    run = cast("Run", OfJob(Job(name="a", query="SELECT 1", key=("id",), model="m", gate=gate)))
    drifted = tuple(
        Finding("input", f"x{at}", 1.0, 1.0, (0, 0), (0, 9), (0, 9), ("PSI 1.00, limit 0.2",)) for at in range(300)
    )

    *named, others = gates.reasons(run, Tally(1, 0, 0, 0, 5_000, None, True, None), Judged(drifted=drifted))

    assert [one.split(":")[0] for one in named] == [f"drift of input x{at}" for at in range(4)]
    assert others == "drift of 296 more columns: `scorebeat drift a`"
