"""`up`, `demo`, `worker`: commands that run for long."""

import os
import sys
from signal import SIGTERM
from typing import TextIO

import click

from core.errors import UsageError
from core.jobs import QUEUE_NAME, RESERVED_QUEUES
from core.settings import Settings, load_settings
from ops import workers
from ops.cli.context import both
from ops.stack.interrupts import Interrupts
from ops.stack.log import Log
from ops.stack.process import Process
from ops.stack.supervisor import Supervisor
from ops.stack.up import DRAIN, child_environment
from ops.stack.up import up as run_all


@click.command()
def up() -> None:
    """Run everything in this terminal: servers, beat, workers, Flower.

    Ends with Ctrl-C. With SCOREBEAT_DATABASE_URL and SCOREBEAT_BROKER_URL set it starts no servers. jobs.toml is
    applied if there is one.

    \b
    Example:
        scorebeat up
    """
    from ops.prepare import prepare  # noqa: PLC0415 -- only here; the rest of this module starts quickly

    run_all(load_settings(), prepare)


@click.command()
def demo() -> int:
    """Score 65,322 flowers from beginning to end, and stop.

    Everything happens in a data folder of its own, `.scorebeat/demo`; each demo starts afresh.

    \b
    Example:
        scorebeat demo
    """
    from ops.demo import demo as run_demo  # noqa: PLC0415

    return run_demo(load_settings())


@click.command()
@click.option("--device", metavar="cpu|cuda:N", help="What to score on.")
@click.option(
    "--queue", "queues", multiple=True, help="Queue to take batches from, may be given again.  [default: cpu]"
)
@click.option("--processes", type=click.IntRange(1, 1024), help="Processes.  [default: one a core]")
@click.option("--control", is_flag=True, help="Plan, dispatch, rescue and settle instead of scoring.")
def worker(device: str | None, queues: tuple[str, ...], processes: int | None, control: bool) -> None:
    """Run a worker until it is stopped: it scores on one device, or keeps the ledger moving.

    \b
    Example:
        scorebeat worker --device cpu --queue cpu
        scorebeat worker --control
    """
    _require_one_kind(device, queues, processes, control=control)
    with both() as p:  # both servers answer, and the ledger is there
        settings = p.settings
    if control:
        _run_control(settings)
    else:
        command = workers.celery_worker(queues or ("cpu",), processes or workers.cores(), f"cpu-{os.getpid()}")
        os.execve(command[0], command, child_environment(settings))  # noqa: S606 -- no shell is wanted


def _require_one_kind(device: str | None, queues: tuple[str, ...], processes: int | None, *, control: bool) -> None:
    if control and (device or queues or processes):
        raise click.UsageError("--control goes without --device, --queue and --processes")
    if not control and device is None:
        raise click.UsageError("say what the worker is for: --device cpu, or --control")
    if device is not None and device.startswith("cuda"):
        raise UsageError(f"--device {device} is not available in this version; expected cpu")
    if device not in (None, "cpu"):
        raise click.UsageError(f"--device {device} is unknown; expected cpu")
    for queue in queues:
        if queue in RESERVED_QUEUES:
            raise UsageError(f"queue {queue!r} is the control worker's: run `scorebeat worker --control`")
        if not QUEUE_NAME.fullmatch(queue):
            raise UsageError(
                f"{queue!r} cannot name a queue; expected small letters, digits, '_' and '-', a letter first"
            )


class _AsTheySpeak(Log):
    """Lines as the workers wrote them: they have their time, and `up` adds who spoke."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._line = lambda name, line: line  # noqa: ARG005 -- as `Log` calls it


def _run_control(settings: Settings) -> None:
    # the signal by which a worker finishes what it holds, within its soft time-out
    environment = child_environment(settings) | {"REMAP_SIGTERM": "SIGQUIT"}
    stop = ((SIGTERM, DRAIN),)
    with Interrupts() as interrupts, Supervisor(_AsTheySpeak(sys.stderr), interrupts) as supervisor:
        supervisor.start(Process("control", workers.control_worker(), environment, stop=stop))
        supervisor.start(Process("plan", workers.plan_worker(), environment, stop=stop))
        supervisor.run()
