"""`worker`: one worker, which scores on a device or serves the control and plan queues."""

import os
import sys
from signal import SIGTERM
from typing import TextIO

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import BROKERS_OWN, QUEUE_NAME
from scorebeat.core.queues import RESERVED_QUEUES
from scorebeat.core.settings import Settings
from scorebeat.ops.cli.context import database_and_broker
from scorebeat.ops.cli.options import Whole
from scorebeat.ops.local import worker_commands
from scorebeat.ops.local.interrupts import Interrupts
from scorebeat.ops.local.log import Log
from scorebeat.ops.local.processes import Process
from scorebeat.ops.local.supervisor import Supervisor
from scorebeat.ops.local.up import DRAIN, child_environment
from scorebeat.worker.lifecycle.devices import device as devices


@click.command()
@click.option("--device", metavar="cpu|cuda:N", help="What to score on.")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    help="Queue to take batches from; may be repeated.  [default: cpu, on a GPU gpu]",
)
@click.option("--processes", type=Whole(1, 1024), help="Processes.  [default: one a core, on a GPU 2]")
@click.option("--burst", is_flag=True, help="Stop when nothing is left to do on the queues.")
@click.option("--control", is_flag=True, help="Plan, dispatch, rescue and settle instead of scoring.")
@click.option(
    "--max-tasks-per-child",
    "tasks",
    type=Whole(1, 1_000_000_000),
    metavar="N",
    help="Replace a process by a new one after N batches.  [default: never]",
)
@click.option(
    "--max-memory-per-child",
    "kibibytes",
    type=Whole(1, 2**40),
    metavar="KIB",
    help="Replace a process, after its batch, that ever took more than KIB KiB of memory.  [default: never]",
)
def worker(
    device: str | None,
    queues: tuple[str, ...],
    processes: int | None,
    burst: bool,
    control: bool,
    tasks: int | None,
    kibibytes: int | None,
) -> None:
    """Run a worker until it is stopped: it scores on one device, or keeps the ledger moving.

    \b
    Example:
        scorebeat worker --device cpu --queue cpu
        scorebeat worker --device cuda:0 --burst
        scorebeat worker --control
    """
    renewal = worker_commands.Renewal(tasks, kibibytes)
    if control:
        if device or queues or processes or burst or renewal != worker_commands.NEVER:
            raise click.UsageError("--control goes without any other option")
        # at SIGQUIT a worker finishes its batches, within its soft time-out
        environment = child_environment(_checked()) | {"REMAP_SIGTERM": "SIGQUIT"}
        stop = ((SIGTERM, DRAIN),)
        with Interrupts() as interrupts, Supervisor(_PlainLog(sys.stderr), interrupts) as supervisor:
            supervisor.start(Process("control", worker_commands.control_worker(), environment, stop=stop))
            supervisor.start(Process("plan", worker_commands.plan_worker(), environment, stop=stop))
            supervisor.run()
        return
    if device is None:
        raise click.UsageError("choose what the worker is for: --device cuda:0, --device cpu, or --control")
    for queue in queues:
        if queue in RESERVED_QUEUES:
            raise UsageError(f"queue {queue!r} is the control worker's: run `scorebeat worker --control`")
        if not QUEUE_NAME.fullmatch(queue) or queue in BROKERS_OWN:
            raise UsageError(
                f"{queue!r} cannot name a queue; expected small letters, digits, '_' and '-', a letter first, and none "
                f"of {', '.join(sorted(BROKERS_OWN))}"
            )
    found = devices.find(device)
    environment = child_environment(_checked())
    command = worker_commands.device_worker(
        found.name, queues or (found.queue,), processes, burst=burst, renewal=renewal
    )
    os.execve(command[0], command, environment)  # noqa: S606 -- no shell is wanted


def _checked() -> Settings:
    """The settings. Raises if a server does not answer, or if there is no usable ledger."""
    with database_and_broker() as producer:
        return producer.settings


class _PlainLog(Log):
    """Lines as the workers wrote them: they have a time already, and `up` adds the process' name."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._line = lambda name, line: line  # noqa: ARG005 -- as `Log` calls it
