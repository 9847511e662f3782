"""A container's CPU quota: as many processes as it allows, and none pinned to cores that others have too."""

import os
from pathlib import Path

import pytest

from scorebeat.worker.lifecycle import signals
from scorebeat.worker.lifecycle.devices import pin


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("quota", "cpus", "shares"),
    [
        ("max 100000\n", 8, False),
        ("200000 100000\n", 2, True),
        ("250000 100000\n", 2, True),
        ("50000 100000\n", 1, True),
        ("800000 100000\n", 8, False),
        ("1600000 100000\n", 8, False),
        ("100000 50000\n", 2, True),
    ],
)
def test_a_quota_below_the_cores_counts_instead_of_them(quota: str, cpus: int, shares: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota, "utf-8")

    assert pin.cpus(file) == cpus
    assert pin.shares_cores(file) is shares


def test_without_a_quota_all_cores_are_ours(tmp_path: Path) -> None:
    assert pin.cpus(tmp_path / "cpu.max") == 8
    assert not pin.shares_cores(tmp_path / "cpu.max")


@pytest.mark.parametrize("shares", [True, False])
def test_a_worker_with_a_quota_binds_no_process(shares: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("_SCOREBEAT_BIND", "_SCOREBEAT_WORKER"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(signals, "shares_cores", lambda: shares)

    signals.begin_worker("cpu-1@host", {"queues": "cpu"})

    assert pin.is_bound() is not shares
