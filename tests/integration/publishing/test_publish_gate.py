"""Publishing is refused, with the reason, when readers would lose by it; a person may force it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scorebeat.core.errors import SignatureError
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.versions.comparison import compare
from scorebeat.producer.versions.publish import PublishRefused, publish, publish_anyway, rollback
from tests.integration.publishing.test_agreement import ROWS, USUAL, V1, V2, compared, published, scored, with_outputs
from tests.support.cli_fixtures import Cli, refused, scorebeat
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

pytestmark = pytest.mark.wide

__all__ = ["ledger", "scorebeat", "scored", "trained"]


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
def test_a_publish_that_costs_readers_is_refused_with_its_reason_and_can_be_forced(scored: Ledger, harm: str) -> None:
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
    scored.new_version(3, with_outputs(label=pa.int64(), p0=pa.float64(), more=pa.float64()))

    with pytest.raises(PublishRefused, match=r"it does not give p1, p2, which flowers/1 gives; job flowers_job"):
        publish(scored.producer, MODEL, 3, "ann")


def test_the_share_that_is_wanted_can_be_set(scored: Ledger) -> None:
    scored.sql(f"DELETE FROM {V2} WHERE id <= 60")

    with pytest.raises(PublishRefused, match="60 of the 120 rows"):
        publish(scored.producer, MODEL, 2, "ann", 0.6)
    assert publish(scored.producer, MODEL, 2, "ann", 0.5) == ["flowers_job"]


def test_rows_that_left_the_query_are_not_expected_of_a_new_version(scored: Ledger) -> None:
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


def test_one_output_that_never_changes_is_a_reason_where_todays_version_varies_it(scored: Ledger) -> None:
    scored.sql(f"UPDATE {V2} SET label = 1, p0 = 0")

    with pytest.raises(PublishRefused, match="it gives every row the same label, p0, and flowers/1 does not"):
        publish(scored.producer, MODEL, 2, "ann")
    scored.sql(f"UPDATE {V1} SET label = 2, p0 = 0.5")
    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job"]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (pa.string(), "label as text instead of bigint"),
        (pa.float64(), "label as double precision instead of bigint"),
        (pa.int32(), None),
    ],
    ids=str,
)
def test_an_output_that_changes_its_type_under_its_readers_is_a_reason(
    scored: Ledger, label: pa.DataType, reason: str | None
) -> None:
    scored.new_version(3, with_outputs(**USUAL | {"label": label, "p0": pa.float32()}))
    scored.sql("DELETE FROM items")  # nothing else speaks against it

    if reason:
        with pytest.raises(PublishRefused, match=f"was not published: it gives {reason}. Nothing was switched"):
            publish(scored.producer, MODEL, 3, "ann")
        assert published(scored) == 1
    else:
        assert publish(scored.producer, MODEL, 3, "ann") == ["flowers_job"]


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "is recorded, but .* is not there"),
    "altered": (lambda folder: (folder / "model.skops").write_bytes(b"x"), "was altered or damaged"),
}


@pytest.mark.parametrize("harm", FILES)
def test_a_version_that_no_worker_could_load_is_neither_published_nor_restored(
    scored: Ledger, scorebeat: Cli, harm: str
) -> None:
    done, reason = FILES[harm]
    homes = {version: Path(scored.settings.artifacts) / MODEL / str(version) for version in (1, 2)}

    done(homes[2])
    with pytest.raises(PublishRefused, match=f"flowers/2 was not published, for .*{reason}.* Nothing was switched"):
        publish(scored.producer, MODEL, 2, "ann")
    refused(scorebeat("publish", "flowers/2"))
    assert published(scored) == 1
    assert publish_anyway(scored.producer, MODEL, 2, "ann") == ["flowers_job"]

    done(homes[1])
    with pytest.raises(PublishRefused, match=f"flowers/1 was not published, for .*{reason}.* Nothing was switched"):
        rollback(scored.producer, MODEL, "ann")
    refused(scorebeat("rollback", MODEL))
    assert published(scored) == 2


def test_a_publish_checks_the_store_behind_a_url_and_not_its_local_copies(scored: Ledger, tmp_path: Path) -> None:
    home = Path(scored.settings.artifacts)
    p = Producer(scored.settings.model_copy(update={"artifacts": f"file://{home}"}), "test")
    digest = scored.trained.artifact.digest
    store.open_artifact(p.settings.artifacts, MODEL, 2, digest, cache=p.settings.cache)
    home.rename(tmp_path / "away")

    with pytest.raises(PublishRefused, match=r"flowers/2 is not in file://.* as it was added: it is recorded, but is"):
        publish(p, MODEL, 2, "ann")
    (tmp_path / "away").rename(home)
    assert publish(p, MODEL, 2, "ann") == ["flowers_job"]
    p.close()


def test_predictions_under_another_key_than_the_jobs_are_reported_plainly(scored: Ledger) -> None:
    scored.new_version(3)
    scored.sql("ALTER TABLE items ADD COLUMN name text")
    scored.sql("UPDATE items SET name = 'n' || id")
    scored.scored(a_job(name="renamed", query="SELECT name, a, b FROM items", key="name"), version=3)
    scored.scored(a_job(name="renamed"))

    for check in (lambda: publish(scored.producer, MODEL, 3, "ann"), lambda: compare(scored.producer, MODEL, 3)):
        with pytest.raises(SignatureError, match=r"renamed.key is \(id bigint\) now, but .* under \(name text\)"):
            check()
    assert published(scored) == 1


def test_a_job_that_nobody_scored_yet_or_that_pins_a_version_has_nothing_to_lose(scored: Ledger) -> None:
    scored.sql("CREATE TABLE more AS SELECT * FROM items")
    scored.apply(a_job(name="fresh", query="SELECT id, a, b FROM more"))
    scored.scored(a_job(name="pinned", model=f"{MODEL}/1"))

    assert publish(scored.producer, MODEL, 2, "ann") == ["flowers_job", "fresh"]


def test_a_version_that_was_never_scored_is_not_shown_without_a_word(scored: Ledger, scorebeat: Cli) -> None:
    scored.sql(f"DELETE FROM {V1}")
    publish(scored.producer, MODEL, 2, "ann")

    back, again = scorebeat("rollback", MODEL, "--force"), scorebeat("publish", f"{MODEL}/2", "--force")

    assert back.exit_code == 0
    assert "flowers/1 was never scored for flowers_job" in back.stderr
    assert again.stderr == ""


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
