"""A generation is filled without its primary key, which proves at the end that each row is there once."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from scorebeat.core.errors import RepeatedKey, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.batch_io import columns
from scorebeat.db.ledger.batches import Claim
from scorebeat.db.predictions import generation_keys
from scorebeat.db.reports import status
from scorebeat.db.schema import migrate
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.upkeep.settle import build_keys
from scorebeat.producer.requests.requeue import requeue
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import score_batch
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.wide

__all__ = ["ledger", "points", "trained"]

VIEW = "predictions.flowers_job"


@pytest.fixture
def job(ledger: Ledger) -> Job:
    ledger.sql(FILL.format(first=1, last=25))
    return a_job(rescore="every-run")


def indexes(ledger: Ledger | Points, run: int) -> list[tuple[bool, bool]]:
    """Of each index of the run's table: whether it is of `id`, and whether it is the primary key."""
    return ledger.sql(
        "SELECT pg_get_indexdef(i.indexrelid) ~ '\\(id\\)$', i.indisprimary FROM pg_index i"
        " JOIN scorebeat.prediction_sets s ON i.indrelid = to_regclass('predictions.' || s.table_name)"
        " JOIN scorebeat.runs r ON r.prediction_set_id = s.id WHERE r.id = :run ORDER BY i.indexrelid",
        run=run,
    )


KEY = [(True, True)]


def reason(ledger: Ledger | Points, run: int) -> str:
    with ledger.engine.connect() as connection:
        return str(status.get(connection, run).reason)


def without_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt may commit, however late it comes."""

    def fence(held: Claim, more: str = "") -> str:  # noqa: ARG001 -- the fence's own signature
        return f"SELECT id FROM scorebeat.batches WHERE id = {held.batch_id:d} FOR UPDATE"

    monkeypatch.setattr(columns, "_fence", fence)


def overtaken(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first commit the claim has expired, and another worker has scored the batch."""
    real: Callable[..., bool] = columns.commit
    came: list[int] = []

    def commit(connection: Any, held: Claim, *more: Any) -> bool:
        if not came:
            came.append(held.batch_id)
            ledger.sql(
                "UPDATE scorebeat.batches SET state = 'pending', claim_expires_at = NULL WHERE id = :id",
                id=held.batch_id,
            )
            other = Runtime(ledger.settings, name="w2")
            score_batch(held.batch_id, other)
            other.close()
        return real(connection, held, *more)

    monkeypatch.setattr(columns, "commit", commit)


@pytest.mark.quick
def test_a_generation_has_no_key_while_it_is_filled_and_one_when_it_is_shown(ledger: Ledger, job: Job) -> None:
    run = ledger.planned(job)
    seen = []

    for batch in ledger.batch_ids(run):
        seen.append(indexes(ledger, run))
        ledger.score_one(batch)

    assert seen == [[]] * 3
    assert ledger.run(run).state is RunState.SUCCEEDED
    assert indexes(ledger, run) == KEY
    assert ledger.target(run).unbuilt_key is None
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_a_worker_that_comes_late_to_a_table_without_a_key_commits_nothing(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ledger.planned(job)
    overtaken(ledger, monkeypatch)

    assert [outcome.value for outcome in ledger.score(run)] == ["lost", "committed", "committed"]

    assert indexes(ledger, run) == KEY
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


@pytest.mark.quick
def test_a_row_that_is_stored_twice_fails_the_run_which_names_it_and_is_never_shown(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.scored(job)
    before = ledger.sql(f"SELECT * FROM {VIEW} ORDER BY id")
    run = ledger.planned(job)
    first = ledger.batch_ids(run)[0]
    with monkeypatch.context() as broken:
        without_fence(broken)
        overtaken(ledger, broken)
        ledger.score(run)
    build_keys(ledger.producer)

    failed = ledger.run(run)
    assert failed.state is RunState.FAILED
    table = ledger.target(run).table
    assert str(failed.reason).startswith(
        f"{table} has keys (id) more than once: (1) by batches {first}; (2) by batches {first}; (3) by batches {first} "
        "and others. Nothing of the run is shown."
    )
    assert str(failed.reason).endswith("`scorebeat enqueue flowers_job --rescore` scores its rows by another run")
    assert ledger.sql(f"SELECT * FROM {VIEW} ORDER BY id") == before
    with pytest.raises(UsageError, match=f"run {run} cannot go on: {re.escape(table)} has keys"):
        requeue(ledger.producer, run, "ann")
    ledger.scored(job)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


@pytest.mark.parametrize("order", ["id", "id DESC"])
def test_a_key_that_the_query_gives_twice_fails_the_run_and_is_named(ledger: Ledger, job: Job, order: str) -> None:
    ledger.sql("CREATE VIEW seen AS SELECT * FROM items")
    run = ledger.planned(job.model_copy(update={"query": "SELECT id, a, b FROM seen"}))
    ledger.sql(f"CREATE OR REPLACE VIEW seen AS SELECT * FROM items UNION ALL SELECT 17, 1, 1 ORDER BY {order}")

    first, second, _ = ledger.batch_ids(run)
    ledger.score_one(first)
    with pytest.raises(RepeatedKey, match=r"gives a key twice: Key \(id\)=\(17\) already exists"):
        ledger.score_one(second)

    assert ledger.run(run).state is RunState.FAILED
    assert "Key (id)=(17) already exists" in str(ledger.run(run).reason)


def test_a_batch_that_goes_on_where_it_ended_finds_its_rows_by_the_key(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=1_400))
    run = ledger.planned(a_job(rescore="every-run", batch_rows=700))
    first, second = ledger.batch_ids(run)
    ledger.sql("UPDATE scorebeat.batches SET care = 1 WHERE id = :id", id=first)  # its process died

    ledger.score_one(first)

    assert indexes(ledger, run) == [(True, True)]
    ledger.score_one(second)
    assert ledger.run(run).state is RunState.SUCCEEDED
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 1_400


def test_an_attempt_after_one_that_died_with_a_part_stored_stores_no_row_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.sql(FILL.format(first=1, last=700))
    run = ledger.planned(a_job(rescore="every-run", batch_rows=700))
    (batch,) = ledger.batch_ids(run)
    ledger.sql("UPDATE scorebeat.batches SET care = 1 WHERE id = :id", id=batch)
    with monkeypatch.context() as broken:
        broken.setattr(Runtime, "require_key", away)  # it dies after 512 rows, before the key is built
        with pytest.raises(OSError, match="away"):
            ledger.score_one(batch)
    assert (ledger.batch(batch)["rows_scored"], indexes(ledger, run)) == (512, [])
    ledger.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL")

    ledger.score_one(batch)

    assert ledger.run(run).state is RunState.SUCCEEDED
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 700


def away(*_: object) -> None:
    raise OSError("away")


def test_attempts_that_stored_nothing_leave_the_table_without_a_key(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ledger.planned(job)
    first = ledger.batch_ids(run)[0]
    with monkeypatch.context() as broken:
        broken.setattr(columns, "fetch", away)
        with pytest.raises(OSError, match="away"):
            ledger.score_one(first)
    ledger.sql("UPDATE scorebeat.batches SET next_attempt_at = NULL")

    ledger.score_one(first)

    assert (ledger.batch(first)["state"], ledger.batch(first)["attempt"]) == ("committed", 2)
    assert indexes(ledger, run) == []
    ledger.score(run)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_bad_rows_are_quarantined_and_a_requeue_builds_the_key_first(points: Points) -> None:
    points.fill(30)
    points.model({"raise": [7, 21]})
    job = points.job(rescore="every-run", batch_rows=10)
    run = points.planned(job)
    first, *others = points.pending(run)
    points.attempt(first)
    assert indexes(points, run) == []
    assert points.quarantined(job) == ["7"]

    points.mend()
    assert requeue(points.producer, run, "ann") == 1  # in the middle of the run

    assert indexes(points, run) == KEY
    assert points.work(run) is RunState.SUCCEEDED
    assert points.view(job) == {n: 2 * n + 1.0 for n in range(1, 31)}
    assert [state for state, _ in points.batches(run)] == ["committed"] * (2 + len(others))


def test_a_dead_batch_is_put_back_and_the_generation_is_shown_whole(points: Points) -> None:
    points.fill(400)
    points.model({"raise": range(101, 201)})
    job = points.job(rescore="every-run", batch_rows=100)
    run = points.scored(job)
    assert [state for state, _ in points.batches(run)] == ["committed", "dead", "committed", "committed"]
    assert points.view(job) == {}

    points.mend()
    requeue(points.producer, run, "ann")

    assert points.work(run) is RunState.SUCCEEDED
    assert indexes(points, run) == KEY
    assert points.view(job) == {n: 2 * n + 1.0 for n in range(1, 401)}


def test_a_run_that_is_begun_again_fills_its_generation_anew_without_a_key(points: Points) -> None:
    points.fill(30)
    points.model({"raise": [25]})
    job = points.job(rescore="every-run", on_failure="retry-run", batch_rows=10)
    run = points.planned(job)
    for batch in points.pending(run):
        points.attempt(batch)
    assert (points.run(run).tries, indexes(points, run)) == (2, [])
    points.mend()

    assert points.work(run) is RunState.SUCCEEDED

    assert indexes(points, run) == KEY
    assert points.view(job) == {n: 2 * n + 1.0 for n in range(1, 31)}


def test_rows_scored_anew_for_a_job_that_scores_once_get_their_key_at_the_end(ledger: Ledger, job: Job) -> None:
    once = job.model_copy(update={"rescore": "never"})
    ledger.scored(once)

    run = ledger.planned(once, anew=True)
    first, *others = ledger.batch_ids(run)
    ledger.score_one(first)
    assert indexes(ledger, run) == []
    for batch in others:
        ledger.score_one(batch)

    assert indexes(ledger, run) == KEY
    ledger.sql(FILL.format(first=26, last=30))
    ledger.scored(once)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 30


def test_a_key_of_two_columns_is_built_in_their_order(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    ledger.sql("CREATE VIEW pairs AS SELECT id % 5 AS part, id, a, b FROM items")
    job = a_job(query="SELECT part, id, a, b FROM pairs", key=("id", "part"), rescore="every-run")

    run = ledger.scored(job)
    again = ledger.scored(job)

    for one in (run, again):
        name = ledger.target(one).table_name
        (definition,) = ledger.sql("SELECT indexdef FROM pg_indexes WHERE tablename = :name", name=name)
        assert definition.endswith("USING btree (id, part)")
    assert ledger.check_exact("SELECT id, part, a, b FROM pairs", VIEW, "id, part") == 25


@pytest.mark.slow
def test_a_dump_that_reads_the_table_keeps_no_generation_from_readers(ledger: Ledger, job: Job) -> None:
    run = ledger.planned(job)

    with ledger.producer.engine.connect() as dump:
        dump.exec_driver_sql(f"SELECT count(*) FROM {ledger.target(run).table}")
        ledger.score(run)
        assert ledger.run(run).state is RunState.SUCCEEDED
        assert indexes(ledger, run) == [(True, False)]  # it proves that each row is there once
        assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25
        during = ledger.scored(job)
        assert indexes(ledger, during) == KEY

    ledger.scored(job.model_copy(update={"keep": 9}))
    assert [indexes(ledger, one) for one in (run, during)] == [[(True, False)], KEY]


def test_the_index_of_a_generation_that_was_read_becomes_its_key_with_the_next_run(ledger: Ledger, job: Job) -> None:
    run = ledger.planned(job)
    with ledger.producer.engine.connect() as dump:
        dump.exec_driver_sql(f"SELECT count(*) FROM {ledger.target(run).table}")
        ledger.score(run)

    ledger.enqueue(job)

    assert indexes(ledger, run) == KEY
    assert ledger.target(run).unbuilt_key is None


def test_a_generation_with_further_indexes_has_them_and_its_key_from_the_start(ledger: Ledger, job: Job) -> None:
    ledger.sql(f"CREATE INDEX ON {ledger.target(ledger.scored(job)).table} (label)")

    run = ledger.planned(job)

    assert indexes(ledger, run) == [(True, True), (False, False)]
    ledger.score(run)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_two_that_build_a_key_at_once_do_no_harm(ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run = left_to_control(ledger, job, monkeypatch)
    monkeypatch.setattr(generation_keys, "PATIENCE", "20s")

    with ledger.producer.engine.connect() as writer:
        writer.exec_driver_sql(f"LOCK TABLE {ledger.target(run).table} IN ROW EXCLUSIVE MODE")
        builder = threading.Thread(target=build_keys, args=(ledger.producer,))
        builder.start()
        while not ledger.someone_waits():
            pass
        second = build_keys(ledger.producer)
        assert "is being built" in reason(ledger, run)
        writer.rollback()
    builder.join(20)

    assert second == 0
    assert ledger.run(run).state is RunState.SUCCEEDED
    assert indexes(ledger, run) == KEY


def left_to_control(ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch) -> int:
    """A run that lacks only its key, which no worker has built."""
    run = ledger.planned(job)
    with monkeypatch.context() as patch:
        patch.setattr("scorebeat.worker.scoring.score._settle", lambda *_: None)
        ledger.score(run)
    return run


def test_a_control_round_waits_for_no_key_and_closes_the_run_when_it_is_there(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = left_to_control(ledger, job, monkeypatch)
    sent: list[str] = []

    def send(_: object, task: str, *__: object, **___: object) -> int:
        sent.append(task)
        return 1

    monkeypatch.setattr("scorebeat.producer.control.control_round.send", send)

    assert run_once(ledger.producer).settled == 0
    assert sent == ["scorebeat.keys"]
    assert indexes(ledger, run) == []
    table = f"predictions.{ledger.target(run).table_name}"
    assert reason(ledger, run) == (
        f"all its rows are scored; before they are shown, the primary key of {table} is being built"
    )
    with ledger.engine.begin() as connection:
        generation_keys.build(connection, ledger.target(run))  # another process
    assert run_once(ledger.producer).settled == 1
    assert (ledger.run(run).state, reason(ledger, run)) == ("succeeded", "None")


def test_somebody_who_writes_to_the_table_is_named_until_the_key_can_be_built(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ledger.planned(job)
    monkeypatch.setattr(generation_keys, "PATIENCE", "100ms")
    *first, last = ledger.batch_ids(run)
    for batch in first:
        ledger.score_one(batch)

    with ledger.producer.engine.connect() as writer:
        writer.exec_driver_sql(f"LOCK TABLE {ledger.target(run).table} IN ROW EXCLUSIVE MODE")
        ledger.score_one(last)
        assert "has to be built, which is tried again soon: waits for a lock on" in reason(ledger, run)
        assert build_keys(ledger.producer) == 0
    ledger.sql("UPDATE scorebeat.runs SET key_retry_at = now() - interval '1 second'")

    assert build_keys(ledger.producer) == 1
    assert (ledger.run(run).state, reason(ledger, run)) == ("succeeded", "None")


def test_a_run_is_late_until_its_key_is_there(ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run = left_to_control(ledger, job.model_copy(update={"notify": "http://127.0.0.1:9/"}), monkeypatch)
    ledger.sql("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=run)

    run_once(ledger.producer)

    assert ledger.sql("SELECT event FROM scorebeat.notices WHERE run_id = :id", id=run) == ["late"]


def test_while_a_worker_of_an_older_program_lives_generations_have_their_key(ledger: Ledger, job: Job) -> None:
    ledger.sql("INSERT INTO scorebeat.workers (name, queues) VALUES ('an older one', '[\"cpu\"]')")
    run = ledger.planned(job)

    assert indexes(ledger, run) == KEY
    ledger.score(run)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_an_older_program_that_closes_a_run_builds_its_key_too(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = left_to_control(ledger, job, monkeypatch)
    target = ledger.target(run)

    with ledger.engine.begin() as connection:
        connection.execute(
            text("UPDATE scorebeat.runs SET state = 'succeeded', finished_at = now() WHERE id = :id"), {"id": run}
        )
        connection.exec_driver_sql(f"SELECT scorebeat.complete_generation({target.id})")

    assert indexes(ledger, run) == KEY


def test_a_run_that_was_begun_before_the_ledger_knew_of_this_goes_on(ledger: Ledger, job: Job) -> None:
    ledger.scored(job)
    ledger.sql("INSERT INTO scorebeat.workers (name, queues) VALUES ('of before', '[\"cpu\"]')")
    run = ledger.planned(job)
    first, *_ = ledger.batch_ids(run)
    ledger.score_one(first)
    with ledger.engine.begin() as connection:
        command.downgrade(migrate.config(connection), "0016")
    assert indexes(ledger, run) == KEY  # as the earlier release leaves it

    with ledger.engine.begin() as connection:
        command.upgrade(migrate.config(connection), "head")
    ledger.sql("DELETE FROM scorebeat.workers")
    ledger.score(run)

    assert ledger.run(run).state is RunState.SUCCEEDED
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25
    ledger.scored(job)
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25


def test_the_key_of_many_rows_is_left_to_the_processes_that_plan(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ledger.planned(job)
    with monkeypatch.context() as patch:
        patch.setattr("scorebeat.worker.scoring.score.KEY_ROWS", 24)
        ledger.score(run)
    assert (ledger.run(run).state, indexes(ledger, run)) == ("running", [])

    assert build_keys(ledger.producer) == 1

    assert ledger.run(run).state is RunState.SUCCEEDED
    assert ledger.check_exact("SELECT * FROM items", VIEW, "id") == 25
