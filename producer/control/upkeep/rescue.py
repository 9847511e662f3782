"""Rescue: frees the claims and plans of dead workers and planners."""

from scorebeat.core.events import emit
from scorebeat.db.ledger import batches, plan_lease
from scorebeat.db.records import counters
from scorebeat.producer.context import Producer
from scorebeat.producer.control.upkeep.settle import settle_soon
from scorebeat.producer.keep_going import log_failure
from scorebeat.producer.requests.enqueue import send_plan


def rescue(p: Producer) -> int:
    """Free expired claims and plans; returns how many. The batches become pending, or dead if no attempts are left.

    A run or plan that fails stops no other.
    """
    freed = 0
    with log_failure("rescue of claims"):
        freed += _rescue_claims(p)
    with log_failure("rescue of plans"):
        freed += _rescue_plans(p)
    return freed


def _rescue_claims(p: Producer) -> int:
    with p.engine.begin() as connection:
        freed = batches.rescue(connection)
        if freed:
            counters.add_by_run(connection, counters.CLAIMS_EXPIRED, [run_id for _, run_id, _ in freed])
    for batch_id, run_id, state in freed:
        emit("batch.rescued", batch=batch_id, run=run_id, state=state)
        if state == "dead":
            with log_failure("settle", run_id):
                settle_soon(p, run_id)
    return len(freed)


def _rescue_plans(p: Producer) -> int:
    with p.engine.begin() as connection:
        closed = plan_lease.close_expired(connection)
        failed = plan_lease.fail_spent(connection)
        again = plan_lease.unplanned(connection, p.settings.claim_ttl)
    for run_id in closed:
        emit("plan.cut_short", run=run_id)
        with log_failure("settle", run_id):
            settle_soon(p, run_id)
    for run_id, reason in failed:
        emit("run.failed", run=run_id, reason=reason)
    for run_id in again:
        with log_failure("send plan", run_id):
            send_plan(p, run_id)
        emit("plan.sent_again", run=run_id)
    return len(closed) + len(failed) + len(again)
