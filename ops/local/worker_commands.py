"""Command lines of Scorebeat's Celery workers."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.worker.lifecycle.devices import pin
from scorebeat.worker.lifecycle.devices.device import CPU, GPU_PROCESSES


def cores() -> int:
    """Cores that this process may use, or what a container's quota leaves of them."""
    return pin.cpus() if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def celery_worker(queues: Sequence[str], processes: int, name: str, *options: str) -> tuple[str, ...]:
    """A worker on these queues. `name` must be unique on its host."""
    where = ("-Q", ",".join(queues), "-n", f"{name}@%h", "-c", str(processes), *options)
    return (sys.executable, "-m", "scorebeat.worker", "--quiet", "worker", *where, "-l", "INFO")


@dataclass(frozen=True)
class Renewal:
    """When a worker's process is replaced by a new one, after its current batch."""

    tasks: int | None = None
    """After this number of tasks."""
    kibibytes: int | None = None
    """After it has used this much memory."""

    @property
    def options(self) -> tuple[str, ...]:
        """The options of Celery's worker."""
        tasks = ("--max-tasks-per-child", str(self.tasks)) if self.tasks else ()
        memory = ("--max-memory-per-child", str(self.kibibytes)) if self.kibibytes else ()
        return (*tasks, *memory)


NEVER = Renewal()


def device_worker(
    device: str, queues: Sequence[str], processes: int | None, *, burst: bool, renewal: Renewal = NEVER
) -> tuple[str, ...]:
    """A worker that scores on `cpu` or `cuda:N`; by default its number of processes suits the device."""
    options = ("--device", device, *(["--burst"] if burst else []), *renewal.options)
    usual = cores() if device == CPU else GPU_PROCESSES
    return celery_worker(queues, processes or usual, f"{device.replace(':', '-')}-{os.getpid()}", *options)


def control_worker() -> tuple[str, ...]:
    """The worker for dispatch, rescue, settle and ticks: short tasks, one after the other."""
    return celery_worker([CONTROL_QUEUE], 1, f"control-{os.getpid()}")


def plan_worker() -> tuple[str, ...]:
    """The worker for plans, which may take minutes: two at once, so that a huge one does not delay a small one."""
    return celery_worker([PLAN_QUEUE], 2, f"plan-{os.getpid()}")


def celery_beat() -> tuple[str, ...]:
    return (sys.executable, "-m", "scorebeat.worker", "--quiet", "beat", "-l", "INFO")
