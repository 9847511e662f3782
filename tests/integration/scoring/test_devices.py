"""A GPU worker, without a GPU: its processes are spawned, see one GPU, and lack nothing that a forked one has."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.core.states import FINAL_RUN, RunState
from scorebeat.producer.context import Producer
from scorebeat.producer.control import control_round
from scorebeat.producer.versions import publish
from scorebeat.worker.lifecycle.devices import gpus
from tests.support import poison
from tests.support.cli_fixtures import Cli, adder, job, pairs, refused, scorebeat, write_adder
from tests.support.fixtures import Programs, wait_for
from tests.support.gpus import MODEL, pretend
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.system import children

pytestmark = pytest.mark.wide

__all__ = ["adder", "job", "pairs", "points", "scorebeat"]

Start = Callable[..., "Popen[bytes]"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As for every test, and a model may take a second or two."""
    return settings.model_copy(update={"batch_time_limit": 20, "chunk_time_limit": 1, "row_time_limit": 1})


@pytest.fixture
def start(programs: Programs, tmp_path: Path) -> Start:
    """Starts a worker on `cuda:1` of two pretended GPUs."""

    def worker(*options: str) -> "Popen[bytes]":
        quiet = ("-l", "INFO", "-I", poison.__name__)
        device = ("--device", "cuda:1", "-n", f"gpu{len(programs.started)}@%h")
        return programs.start(
            "celery", "-A", "scorebeat.worker", "worker", *device, *quiet, *options, **pretend(tmp_path)
        )

    return worker


def until_finished(points: Points, run: int, within: float = 60.0) -> RunState:
    """Be the control until the run is closed."""

    def state() -> RunState | None:
        control_round.run_once(points.producer)
        found = points.run(run).state
        return found if found in FINAL_RUN else None

    found = wait_for(state, within)
    assert found is not None
    return found


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def placed_in(folder: Path) -> list[dict[str, Any]]:
    """Each load of the model by a worker's process; this process loaded it when it was added."""
    return [placed for placed in lines(folder / "placed") if placed["pid"] != os.getpid()]


def gpu_job(points: Points, rows: int, kinds: dict[str, Any], **options: Any) -> Job:
    points.fill(rows)
    points.model(kinds, **options)
    return points.job(queue="gpu")


def test_the_processes_are_spawned_and_see_their_gpu_alone(points: Points, start: Start, tmp_path: Path) -> None:
    job = gpu_job(points, 100, {}, placed=str(tmp_path / "placed"))
    worker = start("-c", "1")

    assert until_finished(points, points.planned(job)) is RunState.SUCCEEDED

    assert_accounted(points.engine, job, {})
    (placed,) = placed_in(tmp_path)
    seen = placed["environ"]
    assert placed["device"] == "cuda"
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["CUDA_DEVICE_ORDER"]) == ("1", "PCI_BUS_ID")
    assert seen["OMP_NUM_THREADS"] == "1"
    assert placed["pid"] in children(worker.pid)
    assert b"spawn_main" in Path(f"/proc/{placed['pid']}/cmdline").read_bytes()
    assert points.batches(1, "device") == [f"cuda:1 ({MODEL})"]
    assert os.sched_getaffinity(placed["pid"]) == os.sched_getaffinity(0)


def test_the_ledger_shows_which_device_a_worker_has(points: Points, programs: Programs, start: Start) -> None:
    worker = start()
    listed = "SELECT device, queues, processes FROM scorebeat.workers"

    found = wait_for(lambda: points.sql(listed))

    assert found == [(f"cuda:1 ({MODEL})", ["gpu"], 2)]
    wait_for(lambda: f"process.placed worker=gpu0@{socket.gethostname()}/{worker.pid} device=cuda:1" in programs.logs())


def test_the_claim_of_a_killed_process_is_freed_by_its_parent_at_once(
    points: Points, programs: Programs, start: Start, tmp_path: Path
) -> None:
    job = gpu_job(points, 20, {}, placed=str(tmp_path / "placed"), seconds_a_row=0.1)
    worker = start()
    run = points.planned(job)
    control_round.run_once(points.producer)
    (placed,) = wait_for(lambda: placed_in(tmp_path))

    os.kill(placed["pid"], signal.SIGKILL)

    wait_for(lambda: points.batches(run)[0][1] == 2 or control_round.run_once(points.producer).rescued)
    assert until_finished(points, run) is RunState.SUCCEEDED
    wait_for(lambda: "process.died" in programs.log(worker))  # written after the claim was freed
    assert "batch.rescued" not in programs.logs()
    assert worker.poll() is None
    assert_accounted(points.engine, job, {})


def test_a_row_that_hangs_is_quarantined_and_its_process_replaced(
    points: Points, programs: Programs, start: Start
) -> None:
    job = gpu_job(points, 30, {"hang": [7], "segfault": [20]})
    worker = start("-c", "1")

    run = points.planned(job)
    points.sql("UPDATE scorebeat.batches SET care = 2 WHERE run_id = :run", run=run)

    assert until_finished(points, run) is RunState.PARTIAL
    assert_accounted(points.engine, job, {7: "ProcessDied", 20: "ProcessDied"})
    assert "Timeout (0:00:01)!" in programs.log(worker)


def test_the_size_that_fits_a_device_is_never_exceeded_by_another_process(
    points: Points, programs: Programs, start: Start, tmp_path: Path
) -> None:
    job = gpu_job(points, 100, {}, out_of_memory_above=16, calls=str(tmp_path / "calls"))
    first = start("-c", "1")
    assert until_finished(points, points.planned(job)) is RunState.SUCCEEDED
    assert points.sql("SELECT model, model_version, device, micro_batch_rows FROM scorebeat.device_limits") == [
        ("poison", 1, MODEL, 13)
    ]
    programs.stop(first)
    tried = len(lines(tmp_path / "calls"))
    points.sql("INSERT INTO points SELECT i, i + 0.5 FROM generate_series(101, 300) i")

    start("-c", "1")

    assert until_finished(points, points.planned(job)) is RunState.SUCCEEDED
    assert max(len(x) for _, x in lines(tmp_path / "calls")[tried:]) == 13
    assert_accounted(points.engine, job, {})


def test_a_model_that_only_knows_the_cpu_is_scored_there(
    points: Points, programs: Programs, start: Start, tmp_path: Path
) -> None:
    points.fill(10)
    publish.add(points.producer, write_adder(tmp_path / "adder.skops", "x"), "adder", "test")
    job = points.job(model="adder", queue="gpu")
    worker = start("-c", "1")

    assert until_finished(points, points.planned(job)) is RunState.SUCCEEDED

    assert "model.loaded model=adder/1 device=cpu hardware=cpu" in programs.log(worker)


def test_the_parent_finds_the_gpu_and_imports_no_numeric_library(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import sys; from scorebeat.worker.celery import app; from scorebeat.worker.lifecycle import device;"
        "device.find('cuda:0').enter();"
        "print({'torch', 'xgboost', 'lightgbm', 'onnxruntime'} & set(sys.modules))"
    )
    variables = {f"SCOREBEAT_{name.upper()}": str(getattr(settings, name)) for name in ("database_url", "broker_url")}

    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | pretend(tmp_path) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert result.stdout.strip() == "set()"


def test_a_worker_command_serves_the_gpu_queue_with_two_processes_until_stopped(
    points: Points, programs: Programs, tmp_path: Path
) -> None:
    variables = pretend(tmp_path) | {"CUDA_VISIBLE_DEVICES": "GPU-1aaa"}
    worker = programs.start("scorebeat.ops.cli", "worker", "--device", "cuda:0", **variables)
    wait_for(lambda: points.sql("SELECT 1 FROM scorebeat.workers"))

    ((name, *what),) = points.sql("SELECT name, device, queues, processes FROM scorebeat.workers")

    assert what == [f"cuda:0 ({MODEL})", ["gpu"], 2]
    assert name.startswith(f"cuda-0-{worker.pid}@")
    wait_for(lambda: f'model="{MODEL}" visible=GPU-1aaa' in programs.log(worker))


def test_without_a_gpu_the_command_names_the_devices_it_looked_for(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "PROC", tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    refused(scorebeat("worker", "--device", "cuda:7"), "no NVIDIA GPU was found here", "--device cpu")


@pytest.mark.usefixtures("job")
def test_a_job_whose_gpu_queue_nobody_serves_is_shown(scorebeat: Cli, settings: Settings, producer: Producer) -> None:
    settings.jobs.write_text(settings.jobs.read_text() + 'queue = "gpu"\n')
    assert scorebeat("apply").exit_code == 0
    assert scorebeat("enqueue", "sums").exit_code == 0
    control_round.run_once(producer)

    for command in ("runs", "check"):
        shown = scorebeat(command)
        assert "gpu" in shown.stderr + shown.stdout, (command, shown.output)
        assert "scorebeat worker" in shown.stderr + shown.stdout


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:7", "cuda:0 (NVIDIA Pretended 9)"), ("gpu", "expected cpu, or")]
)
def test_celery_refuses_a_device_that_is_not_there(
    points: Points, programs: Programs, tmp_path: Path, device: str, message: str
) -> None:
    assert points is not None

    worker = programs.start("celery", "-A", "scorebeat.worker", "worker", "--device", device, **pretend(tmp_path))

    assert worker.wait(30) == 2
    assert message in " ".join(programs.log(worker).split())
    assert "Traceback" not in programs.log(worker)
