"""Requeue of a part of what failed, by a group, a text or a batch: exactly that part, or a refusal with the reason."""

import pytest

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger.failures import failure_groups
from scorebeat.db.ledger.failures.failure_groups import DEAD, QUARANTINED, FailureGroup
from scorebeat.producer.requests.requeue import requeue
from tests.integration.requeue.test_requeue import kill_batches
from tests.support.cli_fixtures import Cli, refused
from tests.support.poison_fixtures import Points, assert_accounted, points

pytestmark = pytest.mark.wide

__all__ = ["points"]

DISLIKED = "ValueError: the model does not like a row"
ODD = {
    "lines": "a\nb\r\n\tc",
    "control characters": "\x01\x0b\x1f \x7f\x85",
    "bytes that are no text": "caf\\udce9 \\0",
    "markup and quotes": '<b>it\'s</b> "so" & {so} %s 100% \\x00',
    "other scripts": "żółć 模型 \U0001f4a5 e\u0301",
    "very long": "and full, " * 199,
    "blank": " ",
}


def groups(points: Points, run: int) -> list[FailureGroup]:
    with points.engine.connect() as connection:
        return failure_groups.page(connection, run)


def group(points: Points, run: int, error: str) -> FailureGroup:
    """The group whose example has this error, to the letter."""
    (found,) = (one for one in groups(points, run) if one.error == error)
    return found


@pytest.fixture
def disliked(points: Points) -> tuple[Job, int]:
    """A run with four rows in quarantine by the same error; the model has been mended since."""
    points.fill(100)
    points.model({"raise": [5, 6, 50, 95]})
    job = points.job(batch_rows=30)
    run = points.scored(job)
    points.mend()
    return job, run


def reword(points: Points, row: int, error: str) -> None:
    points.sql("UPDATE scorebeat.quarantine SET error = :error WHERE key ->> 0 = :row", error=error, row=str(row))


def test_requeuing_an_error_group_requeues_exactly_the_rows_that_it_counts(
    points: Points, disliked: tuple[Job, int]
) -> None:
    job, run = disliked
    reword(points, 6, "the model does not like a row of such a length")
    reword(points, 50, "worse: ValueError: the model does not like a row")
    one = group(points, run, DISLIKED)

    assert requeue(points.producer, run, "ann", group=one.id) == 1

    assert (one.count, points.batches(run, "rows_planned")[-1]) == (2, 2)
    assert points.work(run) is RunState.PARTIAL
    assert_accounted(points.engine, job, dict.fromkeys([6, 50], "ValueError"))
    assert requeue(points.producer, run, "ben", group=one.id) == 0


def test_a_group_is_of_one_kind_though_rows_and_batches_have_the_same_error(points: Points) -> None:
    points.fill(100)
    points.model({"raise": [95]})
    job = points.job(batch_rows=30)
    run = kill_batches(points, job, 2, DISLIKED)
    points.mend()
    dead, quarantined = groups(points, run)
    assert (dead.kind, dead.match, quarantined.kind, quarantined.match) == (DEAD, DISLIKED, QUARANTINED, DISLIKED)

    assert requeue(points.producer, run, "ann", group=quarantined.id) == 1
    assert points.batches(run, "state") == ["dead", "dead", "committed", "committed", "pending"]
    points.work(run)
    assert requeue(points.producer, run, "ann", group=dead.id) == 2

    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_the_type_of_an_error_distinguishes_groups_of_equal_text(points: Points, disliked: tuple[Job, int]) -> None:
    job, run = disliked
    points.sql("UPDATE scorebeat.quarantine SET error_type = 'A', error = 'B: c' WHERE key ->> 0 = '5'")
    points.sql("UPDATE scorebeat.quarantine SET error_type = 'A: B', error = 'c' WHERE key ->> 0 = '6'")
    points.sql("UPDATE scorebeat.quarantine SET error_type = 'KeyError' WHERE key ->> 0 = '50'")
    alike = [one for one in groups(points, run) if one.error == "A: B: c"]

    assert len({one.id for one in alike}) == 2
    requeue(points.producer, run, "ann", group=alike[0].id)
    requeue(points.producer, run, "ann", group=group(points, run, DISLIKED).id)

    points.work(run)
    assert points.quarantined(job) == ["6", "50"]


@pytest.mark.parametrize("case", ODD)
def test_a_group_is_put_back_whatever_its_error_is_made_of(
    points: Points, disliked: tuple[Job, int], case: str
) -> None:
    job, run = disliked
    reword(points, 50, ODD[case])

    assert requeue(points.producer, run, "ann", group=group(points, run, f"ValueError: {ODD[case]}").id) == 1

    points.work(run)
    assert_accounted(points.engine, job, dict.fromkeys([5, 6, 95], "ValueError"))


def test_a_group_keeps_its_id_while_rows_leave_it_and_has_it_in_every_run(
    points: Points, disliked: tuple[Job, int]
) -> None:
    job, run = disliked
    (before,) = groups(points, run)
    requeue(points.producer, run, "ann", batch_id=points.batches(run, "id")[0])
    (after,) = groups(points, run)

    assert (before.id, before.count, after.count) == (after.id, 4, 2)
    assert requeue(points.producer, run, "ann", group=after.id) == 1
    points.work(run)
    assert_accounted(points.engine, job, {})


def test_a_batch_and_a_group_together_mean_what_fits_both(points: Points, disliked: tuple[Job, int]) -> None:
    job, run = disliked
    (one,) = groups(points, run)

    assert requeue(points.producer, run, "ann", batch_id=points.batches(run, "id")[1], group=one.id) == 1

    points.work(run)
    assert_accounted(points.engine, job, dict.fromkeys([5, 6, 95], "ValueError"))


def test_the_user_who_requeued_a_group_is_recorded_with_its_error(points: Points, disliked: tuple[Job, int]) -> None:
    _, run = disliked
    (one,) = groups(points, run)

    requeue(points.producer, run, "ann", group=one.id)

    assert points.sql("SELECT by, details ->> 'error', details ->> 'rows_from_quarantine' FROM scorebeat.actions"
                      " WHERE action = 'run.requeued'") == [("ann", f"{QUARANTINED}: {DISLIKED}", "4")]  # fmt: skip


def stopped(points: Points) -> tuple[Job, int]:
    """A run past its threshold: 120 rows of its first batch are quarantined, and two batches were stopped."""
    points.fill(1_200)
    points.model({"raise": range(1, 240, 2)})
    job = points.job(batch_rows=400)
    run = points.planned(job)
    points.attempt(points.pending(run)[0])
    assert points.run(run).state is RunState.FAILED
    assert points.batches(run, "state") == ["committed", "cancelled", "cancelled"]
    points.mend()
    return job, run


@pytest.mark.parametrize("by", ["error", "group"])
def test_an_error_puts_back_no_batch_that_was_stopped_and_the_whole_run_does(points: Points, by: str) -> None:
    job, run = stopped(points)
    value = {"error": "does not like", "group": group(points, run, DISLIKED).id}[by]

    assert requeue(points.producer, run, "ann", **{by: value}) == 1  # type: ignore[arg-type]  # a text either way

    assert points.batches(run, "state") == ["committed", "cancelled", "cancelled", "pending"]
    assert points.work(run) is RunState.PARTIAL
    assert requeue(points.producer, run, "ann") == 2
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_a_batch_that_was_stopped_is_put_back_by_its_id(points: Points) -> None:
    _, run = stopped(points)

    assert requeue(points.producer, run, "ann", batch_id=points.batches(run, "id")[1]) == 1

    assert points.batches(run, "state") == ["committed", "pending", "cancelled"]


@pytest.mark.parametrize("part", ["batch_id", "error", "group"])
def test_a_run_that_is_shown_whole_refuses_a_partial_requeue_with_the_reason(points: Points, part: str) -> None:
    points.fill(60)
    points.model({"raise": [50]})
    job = points.job(batch_rows=20, on_failure="retry-run")
    run = points.scored(job)
    assert points.run(run).state is RunState.FAILED
    before = points.batches(run, "id, state, attempt")
    value = {"batch_id": before[0][0], "error": "does not like", "group": "0" * 32}[part]

    with pytest.raises(UsageError, match=r"shown whole or not at all.* Nothing was changed; requeue the whole run"):
        requeue(points.producer, run, "ann", **{part: value})

    assert points.batches(run, "id, state, attempt") == before
    points.mend()
    assert requeue(points.producer, run, "ann") == 3
    assert points.work(run) is RunState.SUCCEEDED
    assert_accounted(points.engine, job, {})


def test_an_empty_text_and_a_batch_of_another_run_put_nothing_back(points: Points, disliked: tuple[Job, int]) -> None:
    job, run = disliked

    with pytest.raises(UsageError, match="is empty, and every error holds that; nothing was put back"):
        requeue(points.producer, run, "ann", error="")
    with pytest.raises(UnknownName, match=f"run {run} has no batch 4711"):
        requeue(points.producer, run, "ann", batch_id=4711)

    assert len(points.quarantined(job)) == 4


def test_the_command_line_takes_a_text_of_any_group_and_refuses_what_would_be_more(
    scorebeat: Cli, points: Points, disliked: tuple[Job, int]
) -> None:
    job, run = disliked
    reword(points, 6, "the model does not like a row of such a length")

    refused(scorebeat("requeue", str(run), "--error", ""), "is empty")
    output = scorebeat("requeue", str(run), "--error", "does not like a row").output

    assert output.startswith(f"1 batch of run {run} put back")
    assert points.quarantined(job) == []
