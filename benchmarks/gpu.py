"""`make bench-gpu`: a transformer over a million rows on one GPU: its load, its speed, and a run on a full card."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from sqlalchemy import text

from benchmarks.bench_stack import Bench
from benchmarks.gpu_model import Shape
from benchmarks.gpu_stack import HEAVY, end_processes, gpu_bench, held_memory
from benchmarks.measure import timed_run, wait_until_final
from scorebeat.core.errors import UsageError
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.worker.lifecycle.devices import device as devices
from scorebeat.worker.lifecycle.devices.device import Device

AIM = 0.9
"""Share of the time that the GPU is to be busy."""
LEFT_FREE = 4 << 30
"""Bytes of the card's memory that stay free while another process fills it."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cuda:0")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--batch-rows", type=int, default=20_000)
    options.add_argument("--layers", type=int, default=Shape.layers)
    options.add_argument("--width", type=int, default=Shape.width)
    options.add_argument("--processes", type=int, default=2)
    chosen = options.parse_args()
    device = _device(chosen.device)
    shape = replace(Shape(), layers=chosen.layers, width=chosen.width)
    with gpu_bench(device, chosen.rows, chosen.batch_rows, chosen.processes, shape) as b:
        result: dict[str, Any] = {"device": device.model, "rows": chosen.rows, "batch_rows": chosen.batch_rows}
        result |= vars(shape)
        result |= measured(b, device, chosen.rows, chosen.batch_rows, chosen.processes)
        if device.is_gpu:
            result["a full card"] = filled(b, device, chosen.batch_rows)
    print(json.dumps(result, indent=2))


def _device(name: str) -> Device:
    """The device. Exits with 2, with the reason, if there is no such device or no PyTorch."""
    try:
        if find_spec("torch") is None:
            raise UsageError("PyTorch is not installed here: pip install 'scorebeat[torch]'")
        return devices.find(name)
    except UsageError as error:
        sys.stderr.write(f"not run: {error}\n")
        raise SystemExit(error.exit_code) from None


def measured(b: Bench, device: Device, rows: int, batch_rows: int, processes: int) -> dict[str, Any]:
    """The run and the plain loop, after one batch for each process as a warm-up."""
    some(b, processes * batch_rows)
    with busy(device) as samples:
        run = timed_run(b, processes)
    plain = plain_loop(b, device, rows, batch_rows)
    share = sum(samples) / len(samples) / 100 if samples else None
    return {
        "rows timed": run.rows,
        "scorebeat, rows/s": run.rows_per_second,
        "plain loop, rows/s": plain,
        "ratio": run.rows_per_second / plain,
        "GPU busy, share of the time": share,
        "aim": AIM,
        "split of the processes' time": run.split,
    }


def some(b: Bench, rows: int) -> int:
    """A run over the next rows; returns its id."""
    run_id = enqueue(b.p, Request(HEAVY, "benchmark", selection=Selection(limit=rows))).run_id
    wait_until_final(b, run_id)
    return run_id


class busy:  # noqa: N801 -- a context manager
    """Samples of the GPU's utilisation in percent: of each fifth of a second, the share in which a kernel ran."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._samples: list[float] = []

    def __enter__(self) -> list[float]:
        what = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
        which = ("-i", self._device.visible)
        self._smi = (
            subprocess.Popen(["nvidia-smi", *which, *what], stdout=subprocess.PIPE, text=True)  # noqa: S607
            if self._device.is_gpu
            else None
        )
        return self._samples

    def __exit__(self, *_: object) -> None:
        if self._smi is not None:
            self._smi.terminate()
            output = self._smi.communicate(timeout=10)[0]
            self._samples += [float(line) for line in output.splitlines() if line.strip().isdecimal()]


def plain_loop(b: Bench, device: Device, rows: int, batch_rows: int) -> float:
    """Rows a second of one process with the same model and batches, the rows in memory, and no database."""
    artifact = b.artifact
    command = [sys.executable, "-m", "benchmarks.gpu_plain", device.name, str(rows), str(batch_rows)]
    command += [str(artifact.folder), artifact.name, str(artifact.version), artifact.digest]
    loop = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(loop.stdout.splitlines()[-1])


def filled(b: Bench, device: Device, batch_rows: int) -> dict[str, Any]:
    """Another process fills the card: all rows are still scored, in parts whose size is recorded."""
    with b.engine.begin() as connection:
        connection.execute(text("DELETE FROM scorebeat.device_limits"))
        connection.execute(text(f"DELETE FROM {prediction_table(b)} WHERE id <= :rows"), {"rows": 2 * batch_rows})
    end_processes(b)  # else the memory that PyTorch has cached in them is enough for the batches
    with held_memory(device, LEFT_FREE):
        state = wait_until_final(b, some(b, 2 * batch_rows))
    with b.engine.connect() as connection:
        limits = connection.execute(text("SELECT device, micro_batch_rows FROM scorebeat.device_limits")).all()
    return {"run": state.value, "left free, bytes": LEFT_FREE, "learned": [list(row) for row in limits]}


def prediction_table(b: Bench) -> str:
    with b.engine.connect() as connection:
        query = text("SELECT table_name FROM scorebeat.prediction_sets WHERE job = :job")
        return f"predictions.{connection.execute(query, {'job': HEAVY}).scalar_one()}"


if __name__ == "__main__":
    main()
