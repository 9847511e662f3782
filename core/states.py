"""The states of a run and of a batch. docs/states.md draws the moves; CHECKs in `db.schema.tables` hold them."""

from enum import IntEnum, StrEnum


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


class Rank(IntEnum):
    """In what order the batches of open runs are sent, those of the lowest first."""

    SCHEDULED = 0
    """A tick asked, or an outer scheduler by its run key."""
    BY_HAND = 1
    CANDIDATE = 2
    """A version that the job does not follow (yet)."""
