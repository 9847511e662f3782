"""The costs of all jobs, as a scrape reads them."""

from dataclasses import dataclass
from datetime import date
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from scorebeat.core.prices.price_list import NO_PRICES, Used
from scorebeat.core.states import AttemptEnd
from scorebeat.db.ledger import jobs
from scorebeat.db.records import price_list
from scorebeat.db.reports import usage
from scorebeat.producer.costs import cost_report

JOBS = 200
USED = Used("cpu", "cpu", date(2026, 7, 1), 2.0)


@dataclass
class Counted:
    """Time that a job used; it counts how often it is looked at."""

    name: str
    end: AttemptEnd = AttemptEnd.COMMITTED
    attempts: int = 1
    rows: int = 10
    used: Used = USED
    looks: int = 0

    @property
    def job(self) -> str:
        self.looks += 1
        return self.name


def test_the_costs_of_many_jobs_look_at_each_use_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    used = [Counted(f"job_{number}") for number in range(JOBS)]
    listed: list[Any] = [SimpleNamespace(job=SimpleNamespace(name=one.name)) for one in used]
    monkeypatch.setattr(price_list, "read", lambda _: NO_PRICES)
    monkeypatch.setattr(usage, "by_day", lambda _: used)
    monkeypatch.setattr(jobs, "listing", lambda _: listed)

    found = cost_report.by_job(cast("Connection", None))

    assert {cost.rows for cost in found.values()} == {10}
    assert len(found) == JOBS
    assert sum(one.looks for one in used) <= 3 * JOBS
