"""Rows of a job's query for the trial of a model, read as a worker reads them."""

from dataclasses import dataclass, field
from functools import partial

from scorebeat.core.errors import SignatureError, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.db.batch_io import columns
from scorebeat.db.connect.engine import reachable
from scorebeat.db.connect.sql import numbered
from scorebeat.db.ledger import jobs
from scorebeat.db.source import source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.db.source.values import notebook_rows
from scorebeat.models.contract import Signature
from scorebeat.models.inputs.binding import bind
from scorebeat.models.inputs.samples import Sampled
from scorebeat.producer.context import Producer


@dataclass(frozen=True)
class SampleJob:
    """The first `most` rows of a job's query, in the order of its key."""

    p: Producer
    job: str
    most: int
    _read: dict[Signature, Sampled] = field(default_factory=dict)
    """Rows that were read already: a format may look at some rows before the trial."""

    def read(self, signature: Signature) -> Sampled:
        """See `Sample.read`. Raises UnknownName, QueryError, SignatureError, or UsageError if there are no rows."""
        if signature not in self._read:
            with reachable(self.p.url), planning_cursor.reading(self.p.engine) as reader:
                job = jobs.get(reader, self.job).job
            option, name = f"--sample-job {self.job}", f"job {self.job}"
            self._read[signature] = _first_rows(self.p, job, self.most, signature, option, name)
        return self._read[signature]


@dataclass(frozen=True)
class SampleQuery:
    """The first `most` rows of a query, in the order in which it returns them."""

    p: Producer
    query: str
    most: int

    def read(self, signature: Signature) -> Sampled:
        """See `Sample.read`. Raises QueryError, SignatureError, or UsageError if there are no rows."""
        query = numbered(self.query, _ROW)
        job = Job(name="reference_query", query=query, key=(_ROW,), model="any", allow_full_scans=True)
        return _first_rows(self.p, job, self.most, signature, "--reference-query", "a query")


_ROW = "scorebeat_row"


def _first_rows(p: Producer, job: Job, most: int, signature: Signature, option: str, name: str) -> Sampled:
    """The first `most` rows of the job's query in the order of its key; `option` and `name` are for messages."""
    with reachable(p.url), planning_cursor.reading(p.engine) as reader:
        found = source.describe(reader, p.url, job)
        try:
            names = bind(signature, found.columns).columns
        except SignatureError as error:
            raise SignatureError(f"{option}: {error}") from None
        pending = PendingRows(found, "", 0, has_quarantine=False)
        span = planning_cursor.whole_range(reader, pending)
        if span is None:
            raise UsageError(f"{option}: its query gives no rows; use a file")
    statement = pending.batch(names, span, most, anti_join=False)
    fetched = columns.fetch_once(p.url, "scorebeat sample", statement, found, most, job.batch_bytes)
    keys = fetched.keys.to_pylist()
    return Sampled(
        name,
        fetched.rows,
        partial(notebook_rows.read, p.url, pending.as_it_is(names, span, fetched.rows.num_rows)),
        name=lambda index: f"the row with {', '.join(f'{name} {value}' for name, value in keys[index].items())}",
    )
