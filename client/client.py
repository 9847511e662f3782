"""A connection to one installation of Scorebeat: what `scorebeat.connect` returns."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from scorebeat.client.models import Models
from scorebeat.client.own_errors import own_errors, with_own_errors
from scorebeat.client.run import Run
from scorebeat.client.values import (
    count_of,
    jobs_of,
    keys_of,
    parameters_of,
    require_flags,
    require_texts,
    require_texts_or_none,
    require_time,
    version_text,
)
from scorebeat.core.data_folder import joined
from scorebeat.core.errors import UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_files
from scorebeat.core.settings import load_settings
from scorebeat.db.ledger import jobs as ledger_jobs
from scorebeat.db.ledger.evidence import quality
from scorebeat.db.ledger.evidence.quality import JobQuality
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import job_lines, run_pages
from scorebeat.db.reports.pages.job_lines import JobLine
from scorebeat.db.reports.status import RunLine
from scorebeat.db.schema import revisions
from scorebeat.online.predictor import Predictor
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.requests import apply as applying
from scorebeat.producer.requests.apply import Applied, ApplyOptions
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.run_request import checked_version, time_of_job

if TYPE_CHECKING:
    import pyarrow as pa

Key = Any
"""A key: one value, or a sequence of one value a key column."""


@with_own_errors
class Client:
    """Jobs, runs, models and predictions of one installation. Threads may share it; close it when done."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._predictor: Predictor | None = None
        self.models = Models(producer)

    @classmethod
    def connect(cls, database_url: str | None = None, **settings: Any) -> Self:
        """What `scorebeat.connect` does."""
        require_texts_or_none(database_url=database_url)
        own_settings = settings if database_url is None else {"database_url": database_url, **settings}
        loaded = load_settings(own_settings)
        client = cls(Producer(loaded if "database_url" in own_settings else joined(loaded), "client"))
        try:
            with own_errors(client._producer.url), client._producer.engine.connect() as connection:
                revisions.require_usable(connection)
        except BaseException:
            client.close()
            raise
        return client

    def close(self) -> None:
        """Close the connections."""
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def enqueue(  # noqa: PLR0913 -- each is a keyword
        self,
        job: str,
        *,
        where: str | None = None,
        keys: Iterable[Key] | None = None,
        limit: int | None = None,
        model: str | Version | None = None,
        run_key: str | None = None,
        due_at: datetime | str | None = None,
        parameters: Mapping[str, Any] | None = None,
        rescore: bool = False,
    ) -> Run:
        """Score the rows of the job that have no prediction yet, or a selection of them.

        `where` is an SQL condition over the query's columns. `keys` are the rows' keys. `limit` is the largest number
        of rows; the lowest keys come first. `model` is a version such as `iris/4`; None is the version that the job
        follows. If `run_key` made a run before, that run is returned and nothing is enqueued, so a scheduler's task
        can be retried. `due_at` and `parameters` are values of the query; a time without a zone is in the job's time
        zone. `rescore` scores every row anew.

        Raises UnknownName, RunOpen while the job has an open run, RunHeld while a run of it waits for `release` or
        `discard`, SourceLocked while a table of the query is locked, QueryError, SignatureError, UsageError for a wrong
        argument, or ServiceDown; then nothing was enqueued.
        """
        from scorebeat.broker.send import require_broker  # noqa: PLC0415 -- Celery, which readers do not need

        require_texts(job=job)
        require_texts_or_none(where=where, run_key=run_key)
        chosen = None if model is None else version_text("model", model)
        require_flags(rescore=rescore)
        if due_at is not None:
            require_time("due_at", due_at)
        if limit is not None:
            limit = count_of("limit", limit, "a number of rows", least=1)
        wanted_keys = None if keys is None else keys_of(keys)
        values = parameters_of(parameters)
        require_broker(self._producer.app)
        version = checked_version(self._producer, job, chosen, where, wanted_keys)
        due = due_at if due_at is None else time_of_job(self._producer, job, "due_at", str(due_at))
        selection = Selection(limit, where, wanted_keys)
        request = Request(job, whoami(), version, selection, run_key, due, values, anew=rescore)
        made = enqueue(self._producer, request)
        return Run(self._producer, made.run_id, is_new=made.is_new)

    def run(self, number: int) -> Run:
        """The run of that number. Raises UnknownName, or UsageError if it is no number."""
        found = Run(self._producer, count_of("number", number, "the number of a run", least=1))
        found.status()
        return found

    def runs(self, job: str | None = None, *, limit: int = 50) -> list[RunLine]:
        """The newest runs first, of one job or of all, at most `limit` of them.

        Raises UsageError for a wrong limit, UnknownName for a job that was never applied.
        """
        require_texts_or_none(job=job)
        limit = count_of("limit", limit, "a number of runs", least=1)
        with results.reading(self._producer.engine) as connection:
            if job is not None:
                ledger_jobs.require_known(connection, job)
            return run_pages.runs(connection, job=job, states=[], before=None, limit=limit)

    def jobs(self) -> list[JobLine]:
        """The jobs by name: when each is due, how its last run ended, why it was last skipped."""
        with results.reading(self._producer.engine) as connection:
            return job_lines.listing(connection)

    def apply(
        self,
        jobs: str | os.PathLike[str] | Iterable[Job] | None = None,
        *,
        owner: str | None = None,
        dry_run: bool = False,
        prune: bool = False,
        adopt: bool = False,
        force: bool = False,
    ) -> Applied:
        """Apply a jobs file, a folder of them, or these jobs to the ledger, all or nothing; None is SCOREBEAT_JOBS.

        A list needs `owner`, the name under which the ledger keeps whose jobs they are; a file has one of its own.
        `dry_run` changes nothing. `prune` removes jobs that the owner has in the ledger and not here. `adopt` takes
        over jobs of another owner. `force` applies a change by which readers lose predictions.

        Raises JobsFileError, or UsageError with all mistakes together.
        """
        require_texts_or_none(owner=owner)
        require_flags(dry_run=dry_run, prune=prune, adopt=adopt, force=force)
        options = ApplyOptions(prune, adopt, force)
        if jobs is None or isinstance(jobs, str | os.PathLike):
            if owner is not None:
                raise UsageError("owner is for a list of jobs; a jobs file has it at its top. Nothing was applied")
            files = read_files(self._producer.settings.jobs if jobs is None else Path(jobs))
        else:
            files = [jobs_of(jobs, owner)]
        if dry_run:
            return applying.difference(self._producer, files, options)
        return applying.apply_files(self._producer, files, whoami(), options)

    def publish(self, version: str | Version, *, force: bool = False) -> list[str]:
        """What `models.publish` does."""
        return self.models.publish(version, force=force)

    def quality(self, job: str) -> JobQuality:
        """How well the job's predictions fit what really happened, by model version and week; the newest week first.

        Raises UnknownName.
        """
        require_texts(job=job)
        with results.reading(self._producer.engine) as connection:
            return quality.of_job(connection, job)

    def predictions(self, job: str) -> "pa.Table":
        """The published predictions of a job, as readers of the view `predictions.<job>` see them now.

        Returns a pyarrow.Table with the key columns, the outputs, `batch_id` and `scored_at`, in no order;
        `to_pandas()` or `polars.from_arrow()` makes a DataFrame of it. Values of types that Arrow lacks are texts, as
        psql shows them. The whole table is in memory. Raises UnknownName, or UsageError if the job has no predictions
        yet.
        """
        from scorebeat.db.reports import published  # noqa: PLC0415 -- loads Arrow

        require_texts(job=job)
        return published.table(self._producer.engine, self._producer.url, job)

    def predict(self, model: str, rows: Any) -> Any:
        """Score rows now, in this process, by `iris`, the published version, or `iris/3`; nothing is stored.

        `rows` is a DataFrame of pandas or polars, a pyarrow.Table, or a list of dicts. Columns are bound to the model's
        inputs by name, as columns of a query are; other columns are ignored. NaN, NaT and None are NULL. Returns the
        same kind of table with one column for each output, in the order of the rows; for pandas with the same index.

        Raises UnknownName, SignatureError if the rows do not fit the model's inputs, InputError for values that the
        model does not take, ModelError, or ServiceDown if another thread does not release the model.
        """
        from scorebeat.client import frames  # noqa: PLC0415 -- loads Arrow

        require_texts(model=model)
        frames.require_table(rows)
        if self._predictor is None:
            self._predictor = Predictor(self._producer)
        version = self._predictor.version(model)
        if isinstance(rows, list) and not rows:
            return []
        inputs = [one["name"] for one in version.signature["inputs"]]
        return frames.like(rows, self._predictor.predict_columns(version, frames.columns(rows, inputs)))
