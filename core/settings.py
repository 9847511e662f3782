"""Settings: environment variables and `.env`, validated once, all mistakes together."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError

PREFIX = "SCOREBEAT_"


class Settings(BaseSettings):
    """One value an environment variable `SCOREBEAT_<NAME>`; durations in seconds or ISO 8601."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    database_url: str | None = None
    """SQLAlchemy URL, `postgresql://user:password@host:5432/database`."""
    broker_url: str | None = None
    """`redis://`, `rediss://` or `redis+socket://` URL."""
    jobs: Path = Path("jobs.toml")
    artifacts: Path = Path("artifacts")
    data: Path = Path(".scorebeat")
    """Folder of the embedded servers."""
    log_format: Literal["text", "json"] = "text"

    claim_ttl: timedelta = Field(timedelta(seconds=15), gt=timedelta(0))
    """How long a claim lasts unless the worker's parent renews it."""
    heartbeat: timedelta = Field(timedelta(seconds=4), gt=timedelta(0))
    resend_after: timedelta = Field(timedelta(seconds=5), gt=timedelta(0))
    """A pending batch sent longer ago is sent again, if its queue is empty."""
    window: int = Field(1_000, ge=1)
    """Messages out a queue at most."""
    max_attempts: int = Field(5, ge=1)
    backoff: timedelta = Field(timedelta(seconds=2), gt=timedelta(0))
    """Pause before the second attempt; doubled each time, at most `backoff_cap`."""
    backoff_cap: timedelta = Field(timedelta(minutes=5), gt=timedelta(0))
    soft_time_limit: int = Field(540, ge=1)
    """Seconds a batch may take before it is asked to stop."""
    time_limit: int = Field(600, ge=1)
    """Seconds after which the process of a stuck batch is killed."""


def load_settings() -> Settings:
    """Settings of this process. Raises SettingsError naming every variable that is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    if settings.heartbeat * 2 > settings.claim_ttl:
        raise SettingsError(
            f"{PREFIX}HEARTBEAT is {settings.heartbeat.total_seconds():g} s and {PREFIX}CLAIM_TTL "
            f"{settings.claim_ttl.total_seconds():g} s: a claim must outlast two heartbeats"
        )
    return settings


def _explain(error: ValidationError) -> str:
    lines = [
        f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}, got {str(e['input'])!r}" for e in error.errors()
    ]
    return "settings cannot be used:\n  " + "\n  ".join(lines)
