"""Batch inference on Celery: every row scored exactly once, whatever crashes.

The public Python API: `scorebeat.connect()`, what it returns, and the errors. Everything else may change with any
version.

    import scorebeat

    with scorebeat.connect() as client:
        run = client.enqueue("churn")
        run.wait()
        print(client.predictions("churn").to_pandas())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorebeat.client.client import Client
    from scorebeat.client.models import Models
    from scorebeat.client.run import Progress, Run
    from scorebeat.core.errors import (
        InputError,
        JobsFileError,
        ModelError,
        NotPermitted,
        OutputError,
        QueryError,
        RunHeld,
        RunNotSucceeded,
        RunOpen,
        RunStillOpen,
        ScorebeatError,
        ServiceDown,
        SettingsError,
        SignatureError,
        SourceLocked,
        StoreError,
        UnknownName,
        UsageError,
    )
    from scorebeat.core.jobs.job import Job
    from scorebeat.core.states import RunState
    from scorebeat.db.ledger.failures.failure_groups import FailureGroup
    from scorebeat.db.ledger.model_versions import Version
    from scorebeat.db.ledger.evidence.profiles import RunDrift
    from scorebeat.db.ledger.evidence.quality import JobQuality, QualityWeek
    from scorebeat.db.predictions.comparison import Agreement
    from scorebeat.db.reports.pages.job_lines import JobLine
    from scorebeat.db.reports.status import RunLine
    from scorebeat.drift.finding import Finding
    from scorebeat.producer.requests.apply import Applied
    from scorebeat.producer.versions.comparison import VersionComparison
    from scorebeat.producer.versions.publish import Added

_ERRORS = "scorebeat.core.errors"
_MODULES = {
    "Client": "scorebeat.client.client",
    "Models": "scorebeat.client.models",
    "Progress": "scorebeat.client.run",
    "Run": "scorebeat.client.run",
    "InputError": _ERRORS,
    "JobsFileError": _ERRORS,
    "ModelError": _ERRORS,
    "NotPermitted": _ERRORS,
    "OutputError": _ERRORS,
    "QueryError": _ERRORS,
    "RunHeld": _ERRORS,
    "RunNotSucceeded": _ERRORS,
    "RunOpen": _ERRORS,
    "RunStillOpen": _ERRORS,
    "ScorebeatError": _ERRORS,
    "ServiceDown": _ERRORS,
    "SettingsError": _ERRORS,
    "SignatureError": _ERRORS,
    "SourceLocked": _ERRORS,
    "StoreError": _ERRORS,
    "UnknownName": _ERRORS,
    "UsageError": _ERRORS,
    "Job": "scorebeat.core.jobs.job",
    "RunState": "scorebeat.core.states",
    "FailureGroup": "scorebeat.db.ledger.failures.failure_groups",
    "Version": "scorebeat.db.ledger.model_versions",
    "RunDrift": "scorebeat.db.ledger.evidence.profiles",
    "JobQuality": "scorebeat.db.ledger.evidence.quality",
    "QualityWeek": "scorebeat.db.ledger.evidence.quality",
    "Agreement": "scorebeat.db.predictions.comparison",
    "JobLine": "scorebeat.db.reports.pages.job_lines",
    "RunLine": "scorebeat.db.reports.status",
    "Finding": "scorebeat.drift.finding",
    "Applied": "scorebeat.producer.requests.apply",
    "VersionComparison": "scorebeat.producer.versions.comparison",
    "Added": "scorebeat.producer.versions.publish",
}
"""Loaded at first use: a worker's start does not pay for them."""

__all__ = [
    "Added",
    "Agreement",
    "Applied",
    "Client",
    "FailureGroup",
    "Finding",
    "InputError",
    "Job",
    "JobLine",
    "JobQuality",
    "JobsFileError",
    "ModelError",
    "Models",
    "NotPermitted",
    "OutputError",
    "Progress",
    "QualityWeek",
    "QueryError",
    "Run",
    "RunDrift",
    "RunHeld",
    "RunLine",
    "RunNotSucceeded",
    "RunOpen",
    "RunState",
    "RunStillOpen",
    "ScorebeatError",
    "ServiceDown",
    "SettingsError",
    "SignatureError",
    "SourceLocked",
    "StoreError",
    "UnknownName",
    "UsageError",
    "Version",
    "VersionComparison",
    "connect",
]


def connect(database_url: str | None = None, **settings: Any) -> "Client":
    """Connect to the installation whose ledger is in this database.

    By default the URL is SCOREBEAT_DATABASE_URL, from the environment or from `.env`, or that of the embedded stack
    which `scorebeat up` runs on the data folder. Other settings are keywords, such as `broker_url`, and override the
    environment. Runs are enqueued through the broker, and models are kept in `artifacts`.

    Raises SettingsError, which names every wrong setting; ServiceDown if the database does not answer; UsageError if
    `scorebeat migrate` never made a ledger in it.
    """
    from scorebeat.client.client import Client  # noqa: PLC0415 -- a worker's start does not pay for it

    return Client.connect(database_url, **settings)


if not TYPE_CHECKING:  # a type checker must find a misspelt name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return getattr(import_module(_MODULES[name]), name)
        raise AttributeError(f"module 'scorebeat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
