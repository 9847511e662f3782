"""A job: the query, model and schedule that a block of jobs.toml names."""

import re
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

JOB_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Job(BaseModel):
    """One checked block of jobs.toml; `Job.model_validate_json` reads back what the ledger stores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    query: str
    key: tuple[str, ...]
    model: str
    """`iris` follows the published version, `iris/3` pins one."""
    schedule: str | None = None
    timezone: str = "UTC"
    queue: str = "cpu"
    batch_rows: int = Field(50_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(256 * 1024**2, ge=1024)
    rescore: Literal["never", "every-run"] = "never"
    on_failure: Literal["retry-rows", "retry-run", "leave"] = "retry-rows"
    deadline: timedelta | None = None
    keep: int = Field(3, ge=1)
    allow_full_scans: bool = False

    @property
    def model_name(self) -> str:
        return self.model.partition("/")[0]

    @property
    def pinned_version(self) -> int | None:
        version = self.model.partition("/")[2]
        return int(version) if version else None
