"""The states of a run and of a batch. docs/states.md draws the moves; CHECKs in `db.tables` hold them."""

from enum import StrEnum


class RunState(StrEnum):
    PLANNING = "planning"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchState(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    COMMITTED = "committed"
    DEAD = "dead"
    CANCELLED = "cancelled"


FINAL_RUN = (RunState.SUCCEEDED, RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED)
