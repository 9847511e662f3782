"""Publishing is refused, with the reason, when readers would lose by it; a person may force it."""

from typing import Any

import pyarrow as pa
import pytest

from producer.publish import PublishRefused, publish, publish_anyway, rollback
from tests.integration.test_agreement import ROWS, V1, V2, compared, gives, published, scored
from tests.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.ledger_rows import MODEL, a_job

__all__ = ["ledger", "scored", "trained"]


def test_a_version_that_agrees_is_published_without_a_word(scored: Ledger) -> None:
    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job"]

    assert published(scored) == 2
    assert actions(scored) == [("ann", "model.published", {"forced": False})]


def actions(ledger: Ledger) -> list[Any]:
    return ledger.sql("SELECT by, action, details FROM scorebeat.actions WHERE subject = 'model flowers/2' ORDER BY id")


HARMS = {
    "never scored": (f"DELETE FROM {V2}", "it was never scored, and readers would lose 120 predictions of flowers/1"),
    "scored too little": (f"DELETE FROM {V2} WHERE id <= 7", r"scored 113 of the 120 rows .* \(94.1 %; 95 % are"),
    "the same for all": (f"UPDATE {V2} SET label = 1, p0 = 0.5, p1 = 0.5, p2 = 0", "gives every row the same outputs"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_readers_would_lose_by_is_refused_with_its_reason_and_can_be_forced(scored: Ledger, harm: str) -> None:
    statement, reason = HARMS[harm]
    scored.sql(statement)

    with pytest.raises(PublishRefused, match=f"flowers/2 was not published: job flowers_job: .*{reason}.*--force"):
        publish(scored.producer, MODEL, 2, "ann")
    assert published(scored) == 1
    assert scored.sql("SELECT count(*) FROM predictions.flowers_job") == [ROWS]
    publish_anyway(scored.producer, MODEL, 2, "ann")

    assert published(scored) == 2
    assert actions(scored) == [("ann", "model.published", {"forced": True})]


def test_an_output_that_the_published_version_has_and_the_new_one_lacks_is_a_reason(scored: Ledger) -> None:
    scored.new_version(3, gives(label=pa.int64(), p0=pa.float64(), more=pa.float64()))

    with pytest.raises(PublishRefused, match=r"it does not give p1, p2, which flowers/1 gives; job flowers_job"):
        publish(scored.producer, MODEL, 3, "ann")


def test_the_share_that_is_wanted_can_be_set(scored: Ledger) -> None:
    scored.sql(f"DELETE FROM {V2} WHERE id <= 60")

    with pytest.raises(PublishRefused, match="60 of the 120 rows"):
        publish(scored.producer, MODEL, 2, "ann", 0.6)
    assert publish(scored.producer, MODEL, 2, "ann", 0.5) == ["flowers_job"]


def test_rows_that_left_the_query_are_not_asked_of_a_new_version(scored: Ledger) -> None:
    scored.sql("DELETE FROM items WHERE id <= 60")
    scored.sql(f"DELETE FROM {V2} WHERE id <= 60")

    assert compared(scored).coverage == 1.0
    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job"]


@pytest.mark.parametrize(("rows", "refused"), [(99, False), (100, True)])
def test_a_few_rows_may_well_be_all_the_same(scored: Ledger, rows: int, refused: bool) -> None:
    scored.sql(f"DELETE FROM items WHERE id > {rows}")
    scored.sql(f"DELETE FROM {V2} WHERE id > {rows}")
    scored.sql(HARMS["the same for all"][0])

    if refused:
        with pytest.raises(PublishRefused, match="the same outputs"):
            publish(scored.producer, MODEL, 2, "ann")
    else:
        assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job"]


def test_one_output_that_never_changes_is_no_reason(scored: Ledger) -> None:
    scored.sql(f"UPDATE {V2} SET label = 1")

    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job"]


def test_a_job_that_nobody_scored_yet_or_that_pins_a_version_has_nothing_to_lose(scored: Ledger) -> None:
    scored.sql("CREATE TABLE more AS SELECT * FROM items")
    scored.apply(a_job(name="fresh", query="SELECT id, a, b FROM more"))
    scored.scored(a_job(name="pinned", model=f"{MODEL}/1"))

    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job", "fresh"]


def test_a_rollback_is_never_refused(scored: Ledger) -> None:
    publish(scored.producer, MODEL, 2, "ann")
    scored.sql(f"DELETE FROM {V1}")

    before, _ = rollback(scored.producer, MODEL, "ann")

    assert before.version == 1
    assert actions(scored)[0][2] == {"forced": False}


def test_an_every_run_job_is_judged_by_its_newest_whole_generation(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    job = a_job(rescore="every-run")
    ledger.scored(job)
    ledger.new_version(2)
    ledger.planned(job, version=2)  # a generation that is not whole

    with pytest.raises(PublishRefused, match="it was never scored, and readers would lose 25"):
        publish(ledger.producer, MODEL, 2, "ann")
    run_id = ledger.sql("SELECT max(id) FROM scorebeat.runs")[0]
    ledger.score(run_id)
    assert publish(ledger.producer, MODEL, 2, "ann") == ["flowers_job"]
