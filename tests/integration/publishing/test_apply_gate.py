"""Applying a job that has another model or pin is refused, as publishing is, when its readers would lose by it."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.model_versions import NewVersion
from scorebeat.ops.local.prepare import prepare
from scorebeat.producer.requests.apply import ApplyOptions, ApplyRefused, apply
from scorebeat.producer.versions.publish import PublishRefused, publish
from tests.integration.publishing.test_agreement import ROWS, V1, V2, scored
from tests.support.cli_fixtures import Cli, refused, scorebeat
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

__all__ = ["ledger", "scorebeat", "scored", "trained"]

SEEN = "SELECT count(*) FROM predictions.flowers_job"
FILE = '[jobs.flowers_job]\nquery = "SELECT id, a, b FROM items"\nkey = "id"\nmodel = "{model}"\nbatch_rows = 200\n'


def another_model(ledger: Ledger, name: str = "roses") -> None:
    """A model of another name, of the same file, published and never scored."""
    artifact = ledger.trained.artifact
    copytree(artifact.folder, Path(ledger.settings.artifacts) / name / "1")
    with ledger.engine.begin() as connection:
        model_versions.add(
            connection, NewVersion(name, 1, "skops", artifact.digest, artifact.signature.to_json()), "test"
        )


def follow_a_pin(ledger: Ledger) -> Job:
    """The job is pinned to version 2, and the version that is published lost all that it had."""
    apply(ledger.producer, [a_job(batch_rows=200, model=f"{MODEL}/2")], "ann")
    ledger.sql(f"DELETE FROM {V1}")
    return a_job(batch_rows=200)


def come_back(ledger: Ledger) -> Job:
    """The job left the file, and its view stayed."""
    another_model(ledger)
    ledger.sql("UPDATE scorebeat.jobs SET removed_at = now()")
    return a_job(batch_rows=200, model="roses")


def pinned(ledger: Ledger, statement: str) -> Job:
    ledger.sql(statement)
    return a_job(batch_rows=200, model=f"{MODEL}/2")


def model_of_another_name(ledger: Ledger) -> Job:
    another_model(ledger)
    return a_job(batch_rows=200, model="roses")


def model_and_query(ledger: Ledger) -> Job:
    another_model(ledger)
    return a_job(batch_rows=200, model="roses", query="SELECT id, a, b FROM items WHERE id > 1000")


CHANGES: dict[str, tuple[Callable[[Ledger], Job], str, int]] = {
    "a pin never scored": (lambda it: pinned(it, f"DELETE FROM {V2}"), "would lose 120 predictions of flowers/1", 0),
    "a pin scored less": (lambda it: pinned(it, f"DELETE FROM {V2} WHERE id <= 7"), "113 of the 120 rows", 113),
    "no pin any more": (follow_a_pin, "would lose 120 predictions of flowers/2", 0),
    "another model": (model_of_another_name, "would lose 120 predictions of flowers/1", 0),
    "another model and query": (model_and_query, "would lose 120 predictions of flowers/1", 0),
    "a model to come": (lambda _: a_job(batch_rows=200, model="tulips"), "tulips has no published version yet", ROWS),
    "back with another model": (come_back, "would lose 120 predictions of flowers/1", 0),
}


@pytest.mark.slow(quick=7)
@pytest.mark.parametrize("change", CHANGES)
def test_a_job_by_whose_model_readers_would_lose_is_refused_and_can_be_forced(scored: Ledger, change: str) -> None:
    make, words, left = CHANGES[change]
    job = make(scored)
    before = stored(scored)

    with pytest.raises(ApplyRefused, match=f"so nothing was applied: jobs.flowers_job with {job.model}: .*{words}"):
        apply(scored.producer, [job], "ann")
    assert scored.sql(SEEN) == [ROWS]
    assert stored(scored) == before
    assert apply(scored.producer, [job], "ann", ApplyOptions(force=True)).removed == []

    assert scored.sql(SEEN) == [left]


def stored(ledger: Ledger) -> list[Job]:
    with ledger.engine.connect() as connection:
        return [row.job for row in jobs.listing(connection)]


def test_a_pin_to_a_version_that_scored_as_much_and_any_other_change_are_applied(scored: Ledger) -> None:
    for job in (a_job(batch_rows=7), a_job(batch_rows=7, model=f"{MODEL}/2"), a_job(model=f"{MODEL}/1")):
        assert apply(scored.producer, [job], "ann").changed == ["flowers_job"]
        assert scored.sql(SEEN) == [ROWS]


def test_a_version_is_not_published_over_the_predictions_of_another_model(scored: Ledger) -> None:
    apply(scored.producer, [a_job(batch_rows=200, model="roses")], "ann", ApplyOptions(force=True))
    artifact = scored.trained.artifact
    copytree(artifact.folder, Path(scored.settings.artifacts) / "roses" / "1")
    with scored.engine.begin() as connection:
        new = NewVersion("roses", 1, "skops", artifact.digest, artifact.signature.to_json())
        model_versions.add(connection, new, "test", may_publish=False)

    with pytest.raises(PublishRefused, match=r"flowers_job: it was never scored, and readers would lose 120 pred.* of"):
        publish(scored.producer, "roses", 1, "ann")
    assert scored.sql(SEEN) == [ROWS]


def test_apply_names_what_readers_lose_and_up_goes_on_with_the_existing_jobs(
    scored: Ledger, scorebeat: Cli, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    another_model(scored)
    settings.jobs.write_text(FILE.format(model="roses"))

    refused(scorebeat("apply"), "readers would lose 120 predictions of flowers/1", "--force", "nothing was applied")
    prepare(settings)

    assert "readers would lose 120 predictions" in capsys.readouterr().err
    assert scored.sql(SEEN) == [ROWS]
    assert scorebeat("apply", "--force").output == "changed job flowers_job\n"
    assert scored.sql(SEEN) == [0]
