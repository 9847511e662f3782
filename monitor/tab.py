"""Adds our handlers and settings to Flower's lists, which Flower reads when it starts, after this."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flower import app, events, urls
from flower.options import options
from flower.views import BaseHandler
from flower.views.tasks import TasksDataTable, TaskView
from kombu.transport import TRANSPORT_ALIASES
from tornado.httpserver import HTTPServer
from tornado.web import StaticFileHandler, url

from scorebeat.broker.guard.flower_events import KnownEvents
from scorebeat.core.settings import Settings
from scorebeat.monitor.actions import JobAction, RunAction
from scorebeat.monitor.handlers import NoPage, Unframed
from scorebeat.monitor.job_page import JobPage
from scorebeat.monitor.ledger import Ledger
from scorebeat.monitor.pages import RunPage, RunsPage
from scorebeat.monitor.permissions import require_logins
from scorebeat.monitor.tasks import BatchPart, DescribedTasks, TaskPage
from scorebeat.monitor.templates import templates

REQUEST_WITHIN = 15.0
"""Seconds that a connection may be idle, or take to send a request."""
STATIC = Path(__file__).parent / "static"
COLUMNS = "name,uuid,state,args,received,runtime,worker"
"""Columns of Flower's task list: its own, and the arguments, which show job, run and rows."""


class Static(StaticFileHandler):
    """Our script and style, whose content type browsers may not guess."""

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")


def wire(settings: Settings) -> None:
    """Once, before Flower reads its options. Raises ValueError for a Flower whose templates are others."""
    loader = templates(Path(urls.settings["template_path"]))
    urls.handlers[:] = with_ours(urls.handlers, Ledger(settings))
    urls.settings["template_loader"] = loader
    events.EventsState = KnownEvents  # Flower makes one when it starts
    # else a half-sent request stays open for an hour, before anybody logs in
    app.HTTPServer = partial(HTTPServer, idle_connection_timeout=REQUEST_WITHIN, body_timeout=REQUEST_WITHIN)
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "scorebeat.broker.guard.flower_transport:Transport"))
    options.add_parse_callback(partial(require_logins, options))
    options.tasks_columns = COLUMNS  # the command line and FLOWER_TASKS_COLUMNS are read later, and override it


def with_ours(flowers: Sequence[Any], ledger: Ledger) -> list[Any]:
    """Flower's handlers with ours before its last one, which returns 404 for everything else."""
    arguments = {"ledger": ledger}
    kept = [_replaced(handler, arguments) for handler in flowers]
    ours = [
        url(r"/runs", RunsPage, arguments, name="runs"),
        url(r"/runs/(\d{1,18})", RunPage, arguments, name="run"),
        url(r"/runs/(\d{1,18})/(requeue|cancel|release|discard)", RunAction, arguments, name="run-action"),
        url(r"/runs/job/([^/]+)", JobPage, arguments, name="job"),
        url(r"/runs/job/([^/]+)/(run|pause|resume)", JobAction, arguments, name="job-action"),
        url(r"/runs/batch/(\d{1,18})", BatchPart, arguments, name="batch"),
        url(r"/runs/static/(.*)", Static, {"path": str(STATIC)}, name="runs-static"),
        url(r"/runs/.*", NoPage, arguments),
    ]
    return [*kept[:-1], *ours, kept[-1]]


def _replaced(handler: Any, arguments: dict[str, Any]) -> Any:
    """One of Flower's handlers, or ours instead of it; each sends our headers."""
    if isinstance(handler, tuple):
        pattern, kind, *more = handler
        return (pattern, _unframed(kind), *more)
    if handler.handler_class is TasksDataTable:
        return url(handler.regex.pattern, DescribedTasks, arguments)
    page = TaskPage if handler.handler_class is TaskView else _unframed(handler.handler_class)
    return url(handler.regex.pattern, page, handler.kwargs, name=handler.name)


def _unframed(kind: Any) -> Any:
    """The handler with our headers; a handler that is not Flower's own, such as that of files, stays as it is."""
    if not isinstance(kind, type) or not issubclass(kind, BaseHandler):
        return kind
    return type(kind.__name__, (Unframed, kind), {})
