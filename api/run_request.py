"""A run that an HTTP request asks for, checked before it is opened."""

from scorebeat.api import keys
from scorebeat.api.schemas import NewRun
from scorebeat.api.service import BY
from scorebeat.core.errors import NotAllowed
from scorebeat.core.settings import PREFIX
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request
from scorebeat.producer.requests.run_request import checked_version, time_of_job


def request(p: Producer, body: NewRun) -> Request:
    """The request for `producer.requests.enqueue`. Raises UsageError, NotAllowed or UnknownName; changes nothing."""
    if body.where is not None and not p.settings.api_where:
        raise NotAllowed(
            "`where` is SQL, which reads whatever the server's role may read: it is taken over HTTP only where "
            f"{PREFIX}API_WHERE=true is set for the server. Name the rows by `keys`, or run "
            "`scorebeat enqueue --where` there; nothing was enqueued"
        )
    wanted_keys = tuple(keys.of_body(key) for key in body.keys) if body.keys is not None else None
    version = checked_version(p, body.job, body.model, body.where, wanted_keys)
    selection = Selection(body.limit, body.where, wanted_keys)
    due_at = time_of_job(p, body.job, "due_at", body.due_at) if body.due_at is not None else None
    return Request(body.job, BY, version, selection, body.run_key, due_at, body.parameters or {})
