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


class AttemptEnd(StrEnum):
    """How an attempt at a batch ended; its time is summed up by this."""

    COMMITTED = "committed"
    REPEATED = "repeated"
    """It committed, and its run was begun again: what it scored was deleted."""
    DISCARDED = "discarded"
    """It committed, and its run failed as a whole: nothing of it is kept."""
    FAILED = "failed"
    LOST = "lost"
    """Its process or worker died, or was cut off from the database until its claim expired."""
    WAITED = "waited"
    """It met a lock, a database that takes no writes, or a worker that cannot load the model."""
    RELEASED = "released"
    """Its worker was stopped, or a requeue took the batch from it."""
    CANCELLED = "cancelled"
    """Its run was closed meanwhile."""
    PLANNED = "planned"
    """No attempt at a batch, but one to plan the run."""
