"""The states of a run and of a batch. docs/states.md draws the moves; CHECKs in `db.schema.tables` hold them."""

from enum import IntEnum, StrEnum


class RunState(StrEnum):
    PLANNING = "planning"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HELD = "held"
    """It has scored its rows, but not passed the gate of its job: readers see none of it until a person decides."""


class BatchState(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    COMMITTED = "committed"
    DEAD = "dead"
    CANCELLED = "cancelled"


FINAL_RUN = (RunState.SUCCEEDED, RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED, RunState.HELD)


class Rank(IntEnum):
    """The order in which batches of open runs are sent, the lowest first."""

    SCHEDULED = 0
    """Enqueued by a tick, or by an outer scheduler with a run key."""
    BY_HAND = 1
    CANDIDATE = 2
    """A version that the job does not follow (yet)."""
