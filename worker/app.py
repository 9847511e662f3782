"""The worker's Celery application: options, bootsteps and signals."""

import logging
import re
import sys
import warnings
from importlib import import_module
from typing import Any

from billiard import current_process
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from sqlalchemy.exc import DBAPIError

from core.celery_app import CONTROL, CONTROL_QUEUE, PLAN_QUEUE, SCORE, make_app
from core.events import configure_logging, emit
from core.identity import become, worker_name
from core.settings import Settings, load_settings
from core.stack import joined
from db import batches
from db.engine import make_engine
from worker.heartbeat import Heartbeat
from worker.pin import bind_processes, is_bound, pin_to_core


def build_app() -> Celery:
    """The application that `celery -A worker` runs. Raises SettingsError naming every wrong variable."""
    settings = joined(load_settings())
    settings.database()
    # messages are JSON here: the pickle that makes root dangerous is refused
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    app = make_app(settings)
    app.conf.update(
        include=["worker.tasks", "producer.tasks"],  # by name: the one arrow from worker to producer
        worker_consumer="worker.consumer:Consumer",
        beat_scheduler="producer.beat:LedgerScheduler",
    )
    app.steps["worker"].add(Heartbeat)
    _connect_signals(settings)
    if "flower" in sys.argv:
        import_module("monitor.flower").install(settings)  # by name: the one arrow from worker to monitor
    app.set_default()
    return app


def _connect_signals(settings: Settings) -> None:
    signals.setup_logging.connect(lambda **_: _log(settings), weak=False)
    signals.celeryd_init.connect(_named, weak=False)
    signals.worker_process_init.connect(_pinned, weak=False)
    signals.task_failure.connect(_process_died, weak=False)


def _log(settings: Settings) -> None:
    configure_logging(settings.log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_worth_reading)


def _worth_reading(record: logging.LogRecord) -> bool:
    """The control tick comes each second; only its troubles are news."""
    return record.levelno > logging.INFO or CONTROL not in record.getMessage()


def _named(sender: str, options: dict[str, Any], **_: Any) -> None:
    become(sender)
    queues = options.get("queues") or []
    names = queues.split(",") if isinstance(queues, str) else queues
    if not names or set(names) - {CONTROL_QUEUE, PLAN_QUEUE}:
        bind_processes()  # planning and control take whichever core is free


def _pinned(**_: Any) -> None:
    if not is_bound():
        return
    core = pin_to_core(current_process().index)
    emit("process.pinned", worker=worker_name(), core=core)


def _cause(exception: BaseException) -> str:
    cause = f"{type(exception).__name__}: {exception}"
    hung = re.search(r"\bexitcode 1\b", cause)  # the watchdog's; not 11 or 139
    return f"{cause} The model took longer than its time limit." if hung else cause


def _process_died(sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
    """In the parent: the process of a batch is gone, so free its claim at once."""
    if sender.name != SCORE or not isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        return
    engine = make_engine(joined(load_settings()).database(), f"scorebeat {worker_name()}", pool_size=1)
    try:
        with engine.begin() as connection:
            state = batches.fail_lost(connection, args[0], worker_name(), _cause(exception))
        emit("process.died", batch=args[0], worker=worker_name(), state=state)
    except DBAPIError as error:
        emit("failure.not_recorded", batch=args[0], reason=" ".join(str(error.orig).split()))
    finally:
        engine.dispose()
