"""What `make bench-gpu` runs on: servers, the items table, the heavy model, and workers started by the command."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench_stack import Bench, fill_items
from benchmarks.gpu_model import Shape, export
from benchmarks.programs import programs
from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.processes import workers
from scorebeat.db.schema import migrate
from scorebeat.models.contract import AddOptions
from scorebeat.ops.local.servers.embedded import embedded
from scorebeat.ops.local.up import child_environment
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.versions import publish
from scorebeat.worker.lifecycle.devices.device import Device

HEAVY = "items"
_HOLD = (
    "import sys, torch; free, _ = torch.cuda.mem_get_info();"
    "held = torch.empty(max(free - int(sys.argv[1]), 1), dtype=torch.uint8, device='cuda');"
    "print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def gpu_bench(device: Device, rows: int, batch_rows: int, processes: int, shape: Shape) -> Iterator[Bench]:
    """A running system with a worker on the device and `rows` items that have no prediction."""
    with tempfile.TemporaryDirectory(prefix="scorebeat-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        urls = stack.enter_context(embedded(folder / "data"))
        settings = Settings(
            database_url=urls.database_url, broker_url=urls.broker_url, artifacts=folder / "artifacts",
            batch_time_limit=3000,
        )  # fmt: skip
        p = Producer(settings, "benchmark")
        stack.callback(p.close)
        with p.engine.begin() as connection:
            migrate.migrate(connection)
        fill_items(p.engine, rows)
        export(folder / "heavy.pt2", shape)
        added = publish.add(
            p, folder / "heavy.pt2", "heavy", "benchmark", AddOptions(("a", "b", "c", "d"), ("x", "y", "z"))
        )
        query = "SELECT id, a, b, c, d FROM items"
        job = Job(name=HEAVY, query=query, key=("id",), model="heavy", queue=device.queue, batch_rows=batch_rows)
        apply(p, [job], "benchmark")
        running = stack.enter_context(_workers(settings, folder, device, processes))
        _until_served(p, device.queue)
        yield Bench(p, added.artifact, running)


def _workers(
    settings: Settings, folder: Path, device: Device, processes: int
) -> AbstractContextManager[dict[str, "subprocess.Popen[bytes]"]]:
    environment = child_environment(settings) | {
        "SCOREBEAT_ARTIFACTS": str(settings.artifacts),
        "SCOREBEAT_BATCH_TIME_LIMIT": str(settings.batch_time_limit),
    }
    scorebeat = [sys.executable, "-m", "scorebeat.ops.cli", "worker"]
    commands = {
        "beat": [sys.executable, "-m", "celery", "-A", "scorebeat.worker", "beat"],
        "control": [*scorebeat, "--control"],
        "worker": [*scorebeat, "--device", device.name, "--processes", str(processes)],
    }
    return programs(commands, environment, folder)


def _until_served(p: Producer, queue: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with p.engine.connect() as connection:
            if {queue, "control", "plan"} <= workers.served(connection):
                return
        time.sleep(0.2)
    raise AssertionError("the workers did not come up")


def end_processes(b: Bench) -> None:
    """Kill the worker's processes, so that their device memory is freed; their parent starts new ones."""
    parent = b.workers["worker"].pid
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    time.sleep(5)  # the driver frees their memory after their end


@contextmanager
def held_memory(device: Device, left: int) -> Iterator[None]:
    """A process that holds all of the card's free memory except `left` bytes."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device.visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(left)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        if holder.stdout is None or holder.stdout.readline().strip() != "held":
            raise AssertionError("the card's memory could not be filled")
        yield
        if holder.stdin is not None:
            holder.stdin.close()
