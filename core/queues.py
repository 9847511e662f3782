"""Queues and tasks of Scorebeat's own, and which task goes to which queue. A job names the queue of its batches."""

CONTROL_QUEUE = "control"
"""Dispatch, rescue, settle, ticks: short work that keeps the ledger moving."""
PLAN_QUEUE = "plan"
"""Planning may take minutes; it has a queue of its own so that nothing else waits for it."""
RESERVED_QUEUES = frozenset({CONTROL_QUEUE, PLAN_QUEUE})
"""No job may name them."""
DEFAULT_QUEUE = "cpu"

SCORE = "scorebeat.score"
PLAN = "scorebeat.plan"
TICK = "scorebeat.tick"
CONTROL = "scorebeat.control"
NOTIFY = "scorebeat.notify"
FOLLOW = "scorebeat.follow"
KEYS = "scorebeat.keys"
CANARY = "scorebeat.canary"
QUALITY = "scorebeat.quality"

ROUTES = {
    PLAN: PLAN_QUEUE,
    TICK: CONTROL_QUEUE,
    CONTROL: CONTROL_QUEUE,
    NOTIFY: PLAN_QUEUE,  # it waits for receivers, which control must not
    FOLLOW: PLAN_QUEUE,  # it reads a whole query, as a plan does
    KEYS: PLAN_QUEUE,  # a key of many rows takes minutes, as a plan does
    QUALITY: PLAN_QUEUE,  # it reads all predictions of a job
}
"""SCORE and CANARY go to the queue of their job."""
