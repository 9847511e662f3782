"""The Celery application of workers, beat and Flower: its options, bootsteps and modules.

It composes what runs in one process, so it alone imports from floors above its own.
"""

import sys
import warnings
from functools import partial
from typing import Any

import click
from celery import Celery

from scorebeat.broker.app import make_app, queue
from scorebeat.broker.guard import commands
from scorebeat.core.data_folder import joined
from scorebeat.core.errors import UsageError
from scorebeat.core.settings import Settings, load_settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema.installation import broker_prefix
from scorebeat.worker.lifecycle import signals as _connected  # noqa: F401 -- connected before Celery sends its first signal
from scorebeat.worker.lifecycle.burst import Burst
from scorebeat.worker.lifecycle.clock import BoundedClock
from scorebeat.worker.lifecycle.devices import device
from scorebeat.worker.lifecycle.drain import Drain
from scorebeat.worker.lifecycle.heartbeat import Heartbeat
from scorebeat.worker.lifecycle.preload import Preload
from scorebeat.worker.lifecycle.standstill import Standstill


def build_app() -> Celery:
    """The application that `celery -A worker` runs. Raises SettingsError naming every wrong variable."""
    settings = joined(load_settings())
    settings.database()
    # Celery warns because pickled messages make root dangerous; here messages are JSON, and pickle is refused
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    app = make_app(settings, partial(_read_prefix, settings))
    app.control.mailbox.clock = BoundedClock()
    app.conf.update(
        # Celery imports these names at the end of its start; a spawned process imports nothing else of ours
        include=["scorebeat.worker.lifecycle.signals", "scorebeat.worker.tasks", "scorebeat.producer.tasks"],
        worker_consumer="scorebeat.broker.guard.consumer:Consumer",
        beat_scheduler="scorebeat.producer.beat:LedgerScheduler",
    )
    app.steps["worker"] |= {Preload, Heartbeat, Burst, Drain, Standstill}
    burst = click.Option(["--burst"], is_flag=True, help="Stop when nothing is left to do on the queues.")
    app.user_options["worker"] |= {_device_option(app), burst}
    if "flower" in sys.argv:
        from scorebeat.monitor import flower  # noqa: PLC0415 -- a worker has no pages

        flower.install(settings)
    commands.narrow()
    app.set_default()
    return app


def _read_prefix(settings: Settings) -> str:
    engine = make_engine(settings.database(), "scorebeat prefix", pool_size=1)
    try:
        return broker_prefix(engine)
    finally:
        engine.dispose()  # the worker's processes are forked from this one


def _device_option(app: Celery) -> click.Option:
    def enter(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
        """This worker scores on the device and, by default, serves only the device's queue."""
        if name is None:
            return None
        try:
            found = device.find(name)
        except UsageError as error:
            raise click.UsageError(str(error)) from None
        found.enter()
        changes: dict[str, Any] = {"task_queues": [queue(found.queue)], "task_default_queue": found.queue}
        if found.is_gpu:
            # a forked process cannot use CUDA if its parent ever did; a spawned process shares nothing with its parent
            changes |= {"worker_pool_start_method": "spawn", "worker_concurrency": device.GPU_PROCESSES}
        app.conf.update(changes)
        return name

    return click.Option(
        ["--device"],
        metavar="cpu|cuda:N",
        callback=enter,
        is_eager=True,  # the device sets the defaults of other options
        help="What to score on; its processes see no other GPU.",
    )
