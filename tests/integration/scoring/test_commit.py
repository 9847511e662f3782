"""Every source row has one prediction, the model's own, whatever arrives twice, late or in parts."""

from typing import Any

import pyarrow as pa
import pytest

from scorebeat.core.errors import OutputError, RepeatedKey
from scorebeat.core.states import RunState
from scorebeat.db.batch_io import columns
from scorebeat.db.source.selection.pending import PendingRows
from scorebeat.models.scoring import score_rows
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

__all__ = ["ledger", "trained"]

WIDE = "SELECT id, a, b, repeat(md5(id::text), 40) AS unused FROM items"


def fill(ledger: Ledger, last: int, first: int = 1) -> None:
    ledger.sql(FILL.format(first=first, last=last))


def exact(ledger: Ledger, run_id: int, query: str = "SELECT * FROM items") -> int:
    return ledger.check_exact(query, ledger.target(run_id).table, "id")


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each fetch."""
    seen: list[int] = []
    real = columns.fetch

    def fetch(*arguments: Any) -> Any:
        found = real(*arguments)
        seen.append(found.rows.num_rows)
        return found

    monkeypatch.setattr(columns, "fetch", fetch)
    return seen


def test_a_message_that_comes_twice_scores_once(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = ledger.planned(a_job())

    first, second = ledger.score(run_id), ledger.score(run_id)

    assert (set(first), set(second)) == ({Outcome.COMMITTED}, {Outcome.SKIPPED})
    assert exact(ledger, run_id) == 25
    assert sum(ledger.batch(b)["rows_scored"] for b in ledger.batch_ids(run_id)) == 25


def test_a_prediction_leads_to_its_batch_and_its_time(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = ledger.scored(a_job())

    kept = ledger.sql(f"SELECT id, batch_id, scored_at <= now() FROM {ledger.target(run_id).table} ORDER BY id")

    ids = ledger.batch_ids(run_id)
    assert kept == [(n, ids[(n - 1) // 10], True) for n in range(1, 26)]
    done = ledger.batch(ids[0])
    assert (done["state"], done["claimed_by"], done["rows_scored"], done["error"]) == ("committed", "w1", 10, None)
    assert min(done["fetch_seconds"], done["predict_seconds"], done["commit_seconds"]) >= 0


def test_a_range_that_grew_past_its_size_is_fetched_in_parts(ledger: Ledger, fetches: list[int]) -> None:
    fill(ledger, 1000)
    ledger.sql("DELETE FROM items WHERE id % 100 > 1")
    run_id = ledger.planned(a_job())
    ledger.sql(FILL.format(first=1, last=901) + " ON CONFLICT DO NOTHING")

    ledger.score(run_id)

    assert max(fetches) <= 11
    assert len(fetches) > 80
    assert ledger.run(run_id).state == "succeeded"
    rest = ledger.scored(a_job())
    assert exact(ledger, rest) == 902


def test_rows_larger_than_the_bound_of_bytes_are_fetched_in_parts(
    ledger: Ledger, fetches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 3000)
    monkeypatch.setattr(columns, "READ_CHUNK", 4096)

    run_id = ledger.scored(a_job(batch_rows=1500, batch_bytes=8192))

    assert len(fetches) > 2
    assert max(fetches) < 1500
    assert exact(ledger, run_id) == 3000


def test_rows_that_are_deleted_after_planning_are_not_scored(ledger: Ledger) -> None:
    fill(ledger, 25)
    run_id = ledger.planned(a_job())
    ledger.sql("DELETE FROM items WHERE id < 15")

    ledger.score(run_id)

    assert ledger.run(run_id).state == "succeeded"
    assert exact(ledger, run_id) == 11


def test_a_first_attempt_without_anti_join_notices_predictions_that_came_meanwhile(
    ledger: Ledger, fetches: list[int]
) -> None:
    fill(ledger, 10)
    run_id = ledger.planned(a_job())
    assert ledger.run(run_id).set_was_empty
    pre_scored(ledger, run_id, 4)

    ledger.score(run_id)

    assert fetches == [10, 9]
    kept = ledger.sql(f"SELECT id, batch_id = 0 FROM {ledger.target(run_id).table} ORDER BY id")
    assert kept == [(n, n == 4) for n in range(1, 11)]
    assert ledger.run(run_id).state == "succeeded"


def pre_scored(ledger: Ledger, run_id: int, key: int) -> None:
    ledger.sql(
        f"INSERT INTO {ledger.target(run_id).table} (id, label, p0, p1, p2, batch_id) VALUES ({key}, 0, 0, 0, 0, 0)"
    )


def test_the_anti_join_is_left_out_only_on_a_first_attempt_of_an_empty_set(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[bool] = []
    real = PendingRows.batch

    def batch(self: PendingRows, *arguments: Any, anti_join: bool, **named: Any) -> str:
        used.append(anti_join)
        return real(self, *arguments, anti_join=anti_join, **named)

    monkeypatch.setattr(PendingRows, "batch", batch)
    fill(ledger, 10)
    ledger.scored(a_job())
    fill(ledger, 20, first=11)
    ledger.scored(a_job())

    assert used == [False, True]


def test_a_key_that_repeats_after_planning_fails_the_run_and_is_named(ledger: Ledger) -> None:
    fill(ledger, 25)
    ledger.sql("CREATE VIEW seen AS SELECT * FROM items")
    run_id = ledger.planned(a_job(query="SELECT id, a, b FROM seen"))
    ledger.sql("CREATE OR REPLACE VIEW seen AS SELECT * FROM items UNION ALL SELECT 17, 1, 1")
    first, second, third = ledger.batch_ids(run_id)
    score_batch(first, ledger.runtime)

    with pytest.raises(RepeatedKey, match=r"gives a key twice: Key \(id\)=\(17\) already exists"):
        score_batch(second, ledger.runtime)

    run = ledger.run(run_id)
    assert run.state is RunState.FAILED
    assert "(id)=(17)" in (run.reason or "")
    assert [ledger.batch(b)["state"] for b in (first, second, third)] == ["committed", "cancelled", "cancelled"]
    assert exact(ledger, run_id, "SELECT * FROM items WHERE id <= 10") == 10


def test_a_model_that_fails_leaves_the_batch_for_another_attempt(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 10)
    run_id = ledger.planned(a_job())
    (batch_id,) = ledger.batch_ids(run_id)

    with monkeypatch.context() as patch:
        patch.setattr(score_rows, "predict", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_batch(batch_id, ledger.runtime)

    failed = ledger.batch(batch_id)
    assert (failed["state"], failed["error"]) == ("pending", "ZeroDivisionError: division by zero")
    ledger.sql("UPDATE scorebeat.batches SET next_attempt_at = now()")
    assert score_batch(batch_id, ledger.runtime) is Outcome.COMMITTED
    assert exact(ledger, run_id) == 10


def test_outputs_of_another_type_write_nothing_and_end_the_batch(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 10)
    run_id = ledger.planned(a_job())
    (batch_id,) = ledger.batch_ids(run_id)
    wrong = pa.record_batch({name: pa.array([1] * 10, pa.int32()) for name in ("label", "p0", "p1", "p2")})
    monkeypatch.setattr(score_rows, "predict", lambda *_: wrong)

    with pytest.raises(OutputError, match="p0 is int32, the table has double"):
        score_batch(batch_id, ledger.runtime)

    assert ledger.batch(batch_id)["state"] == "dead"
    assert ledger.sql(f"SELECT count(*) FROM {ledger.target(run_id).table}") == [0]


def test_no_transaction_is_open_while_the_model_runs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ledger, 10)
    run_id = ledger.planned(a_job())
    states: list[tuple[str, str]] = []
    real = score_rows.predict

    def predict(*arguments: Any) -> Any:
        states.extend(
            ledger.sql(
                "SELECT application_name, state FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'scorebeat w1%'"
            )
        )
        return real(*arguments)

    monkeypatch.setattr(score_rows, "predict", predict)

    ledger.score(run_id)

    assert sorted(states) == [("scorebeat w1", "idle"), ("scorebeat w1 data", "idle")]


def test_an_error_in_the_middle_of_a_commit_leaves_neither_predictions_nor_state(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 10)
    run_id = ledger.planned(a_job())
    (batch_id,) = ledger.batch_ids(run_id)
    monkeypatch.setattr(columns, "_done", lambda *_: "SELECT 1 / 0")

    with pytest.raises(Exception, match="division by zero"):
        score_batch(batch_id, ledger.runtime)

    assert ledger.sql(f"SELECT count(*) FROM {ledger.target(run_id).table}") == [0]
    assert ledger.batch(batch_id)["rows_scored"] == 0
