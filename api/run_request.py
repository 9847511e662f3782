"""A run that a request asks for, checked before it is opened."""

from scorebeat.api import keys
from scorebeat.api.schemas import NewRun
from scorebeat.api.service import BY
from scorebeat.core.errors import NotAllowed
from scorebeat.core.settings import PREFIX
from scorebeat.db.ledger.runs import Selection
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request
from scorebeat.producer.requests.run_request import checked_version, time_of_job


def request(p: Producer, asked: NewRun) -> Request:
    """What `producer.requests.enqueue` takes. Raises UsageError or UnknownName; nothing was changed."""
    if asked.where is not None and not p.settings.api_where:
        raise NotAllowed(
            "`where` is SQL, which reads whatever the server's role may read: it is taken over HTTP only where "
            f"{PREFIX}API_WHERE=true is set for the server. Name the rows by `keys`, or say "
            "`scorebeat enqueue --where` there; nothing was enqueued"
        )
    wanted = tuple(keys.of_body(key) for key in asked.keys) if asked.keys is not None else None
    version = checked_version(p, asked.job, asked.model, asked.where, wanted)
    selection = Selection(asked.limit, asked.where, wanted)
    due_at = time_of_job(p, asked.job, "due_at", asked.due_at) if asked.due_at is not None else None
    return Request(asked.job, BY, version, selection, asked.run_key, due_at, asked.parameters or {})
