"""A process a core, one math thread a process: as the processes report it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from scorebeat.broker.app import queue
from scorebeat.worker.lifecycle.devices.pin import MATH_THREADS
from tests.support.fixtures import wait_for
from tests.support.system import System, children, own_system

pytestmark = pytest.mark.wide

REPORTING = """
import json, os, pathlib

from scorebeat.worker.celery import app


@app.task(name="report")
def report(path):
    import importlib.util
    import numpy, sklearn.linear_model  # what a model needs, imported as late as a model is loaded
    import threadpoolctl

    for name in ("torch", "xgboost", "lightgbm"):  # those that are installed
        if importlib.util.find_spec(name):
            importlib.import_module(name)

    found = {"threads": [pool["num_threads"] for pool in threadpoolctl.threadpool_info()], "environ": dict(os.environ)}
    made = pathlib.Path(path + ".new")
    made.write_text(json.dumps(found))
    made.rename(path)
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        (made.programs.folder / "reporting.py").write_text(REPORTING)
        yield made


@pytest.fixture(scope="module")
def worker(system: System) -> "Popen[bytes]":
    """A process for each core, and one more."""
    processes = str(len(os.sched_getaffinity(0)) + 1)
    celery_worker = ("celery", "-A", "reporting", "worker", "-Q", "cpu", "-c", processes)
    started = system.programs.start(*celery_worker, PYTHONPATH=str(system.programs.folder))
    wait_for(lambda: "celery.apps.worker celery@" in system.programs.log(started))  # it reports that it is ready
    return started


def test_each_process_has_one_core_and_all_cores_have_processes(worker: "Popen[bytes]") -> None:
    cores = sorted(os.sched_getaffinity(0))

    assert _cores(worker) == sorted([*cores, cores[0]])


def test_a_replaced_process_takes_the_core_of_the_one_before(worker: "Popen[bytes]") -> None:
    before, cores = set(children(worker.pid)), _cores(worker)
    victim = min(before)

    os.kill(victim, signal.SIGKILL)

    wait_for(lambda: len(set(children(worker.pid)) - before) == 1 and _cores(worker) == cores)


@pytest.mark.usefixtures("worker")
def test_a_process_computes_in_one_thread(system: System, tmp_path: Path) -> None:
    report = _report_of(system, tmp_path / "report.json")

    assert set(report["threads"]) == {1}
    assert {report["environ"][name] for name in MATH_THREADS} == {"1"}


@pytest.mark.usefixtures("worker")
def test_a_control_worker_is_bound_to_no_core(system: System) -> None:
    control = system.programs.worker("control", "plan", name="control")
    system.until_served("control")

    (child,) = children(control.pid)
    assert os.sched_getaffinity(child) == os.sched_getaffinity(0)


def _cores(worker: "Popen[bytes]") -> list[int]:
    """The core of each process that is bound to one."""
    sets = [os.sched_getaffinity(child) for child in children(worker.pid)]
    return sorted(next(iter(cores)) for cores in sets if len(cores) == 1 or len(os.sched_getaffinity(0)) == 1)


def _report_of(system: System, path: Path) -> dict[str, Any]:
    system.p.app.send_task("report", args=[str(path)], queue=queue("cpu"))
    wait_for(path.exists)
    report: dict[str, Any] = json.loads(path.read_text())
    return report
