"""Command lines of Scorebeat's Celery workers."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.worker.lifecycle import pin
from scorebeat.worker.lifecycle.device import CPU, GPU_PROCESSES


def cores() -> int:
    """Cores that this process may use, or what a container's quota leaves of them."""
    return pin.cpus() if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def celery_worker(queues: Sequence[str], processes: int, name: str, *options: str) -> tuple[str, ...]:
    """A worker on these queues. `name` keeps workers of one host apart, so it must be unique there."""
    where = ("-Q", ",".join(queues), "-n", f"{name}@%h", "-c", str(processes), *options)
    return (sys.executable, "-m", "scorebeat.worker", "--quiet", "worker", *where, "-l", "INFO")


@dataclass(frozen=True)
class Renewal:
    """When a process of a worker makes way for a new one, after the batch that it is at."""

    tasks: int | None = None
    """After so many tasks."""
    kibibytes: int | None = None
    """Once it took so much memory."""

    @property
    def options(self) -> tuple[str, ...]:
        """As Celery's worker takes them."""
        tasks = ("--max-tasks-per-child", str(self.tasks)) if self.tasks else ()
        memory = ("--max-memory-per-child", str(self.kibibytes)) if self.kibibytes else ()
        return (*tasks, *memory)


NEVER = Renewal()


def device_worker(
    device: str, queues: Sequence[str], processes: int | None, *, burst: bool, renewal: Renewal = NEVER
) -> tuple[str, ...]:
    """A worker that scores on `cpu` or `cuda:N`, with as many processes as suit the device unless told."""
    options = ("--device", device, *(["--burst"] if burst else []), *renewal.options)
    usual = cores() if device == CPU else GPU_PROCESSES
    return celery_worker(queues, processes or usual, f"{device.replace(':', '-')}-{os.getpid()}", *options)


def control_worker() -> tuple[str, ...]:
    """Dispatch, rescue, settle and ticks: short work, one after the other."""
    return celery_worker([CONTROL_QUEUE], 1, f"control-{os.getpid()}")


def plan_worker() -> tuple[str, ...]:
    """Plans, which may take minutes: two at once, so that a huge one does not hold up a small one."""
    return celery_worker([PLAN_QUEUE], 2, f"plan-{os.getpid()}")


def celery_beat() -> tuple[str, ...]:
    return (sys.executable, "-m", "scorebeat.worker", "--quiet", "beat", "-l", "INFO")
