"""Flower's lists of handlers and settings with ours in them; they are read when Flower starts, after this."""

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
from scorebeat.monitor.ledger import Ledger
from scorebeat.monitor.pages import RunPage, RunsPage
from scorebeat.monitor.permissions import require_logins
from scorebeat.monitor.tasks import BatchPart, DescribedTasks, TaskPage
from scorebeat.monitor.templates import templates

REQUEST_WITHIN = 15.0
"""Seconds that a connection may be idle, or take to send a request."""
STATIC = Path(__file__).parent / "static"
COLUMNS = "name,uuid,state,args,received,runtime,worker"
"""Of Flower's task list: its own, and the arguments, which say job, run and rows."""


class Static(StaticFileHandler):
    """Our script and style, taken for nothing else."""

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")


def wire(settings: Settings) -> None:
    """Once, before Flower reads its options. Raises ValueError for a Flower whose templates are others."""
    loader = templates(Path(urls.settings["template_path"]))
    urls.handlers[:] = with_ours(urls.handlers, Ledger(settings))
    urls.settings["template_loader"] = loader
    events.EventsState = KnownEvents  # Flower makes one when it starts
    # of 300 half-sent requests each would be open for an hour, before anybody is asked who they are
    app.HTTPServer = partial(HTTPServer, idle_connection_timeout=REQUEST_WITHIN, body_timeout=REQUEST_WITHIN)
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "scorebeat.broker.guard.flower_transport:Transport"))
    options.add_parse_callback(partial(require_logins, options))
    options.tasks_columns = COLUMNS  # the command line and FLOWER_TASKS_COLUMNS come later, and win


def with_ours(flowers: Sequence[Any], ledger: Ledger) -> list[Any]:
    """Flower's handlers with ours before its last, which answers whatever is left with 404."""
    given = {"ledger": ledger}
    kept = [_replaced(one, given) for one in flowers]
    ours = [
        url(r"/runs", RunsPage, given, name="runs"),
        url(r"/runs/(\d{1,18})", RunPage, given, name="run"),
        url(r"/runs/(\d{1,18})/(requeue|cancel)", RunAction, given, name="run-action"),
        url(r"/runs/job/([^/]+)/(run|pause|resume)", JobAction, given, name="job-action"),
        url(r"/runs/batch/(\d{1,18})", BatchPart, given, name="batch"),
        url(r"/runs/static/(.*)", Static, {"path": str(STATIC)}, name="runs-static"),
        url(r"/runs/.*", NoPage, given),
    ]
    return [*kept[:-1], *ours, kept[-1]]


def _replaced(one: Any, given: dict[str, Any]) -> Any:
    """One of Flower's handlers, or ours in its place; each answers with our headers."""
    if isinstance(one, tuple):
        pattern, kind, *more = one
        return (pattern, _unframed(kind), *more)
    if one.handler_class is TasksDataTable:
        return url(one.regex.pattern, DescribedTasks, given)
    page = TaskPage if one.handler_class is TaskView else _unframed(one.handler_class)
    return url(one.regex.pattern, page, one.kwargs, name=one.name)


def _unframed(kind: Any) -> Any:
    """The handler with our headers; what is none of Flower's own, such as that of files, stays."""
    if not isinstance(kind, type) or not issubclass(kind, BaseHandler):
        return kind
    return type(kind.__name__, (Unframed, kind), {})
