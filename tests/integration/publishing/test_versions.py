"""Versions of a model from add to drop: no number is used twice, and nothing that is in use can go."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.errors import ScorebeatError, UnknownName, UsageError
from scorebeat.core.settings import Settings
from scorebeat.db.ledger import model_versions
from scorebeat.models.contract import AddOptions
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.enqueue import Request, open_run
from scorebeat.producer.requests.requeue import cancel, requeue
from scorebeat.producer.versions import drop as dropping
from scorebeat.producer.versions import publish as publishing
from tests.support.cli_fixtures import JOB, ROWS, Cli, refused, score_all, write_adder
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

DROPPED = "SELECT name || '/' || version FROM scorebeat.model_versions WHERE dropped_at IS NOT NULL"
TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'predictions'::regnamespace AND relkind = 'r' ORDER BY relname"
)


def query(engine: Engine, sql: str) -> list[object]:
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(text(sql))]


def execute(engine: Engine, sql: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(sql)


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    return write_adder(tmp_path / "twice.skops", "a", "b", slope=2.0)


@pytest.fixture
def two(scorebeat: Cli, job: str, twice: Path, producer: Producer) -> str:
    """The job, with all rows scored by version 1, which is published, and 60 by version 2."""
    add(producer, twice)
    for run_id, options in enumerate(([], ["--model", "2", "--limit", "60"]), start=1):
        scorebeat("enqueue", job, *options)
        score_all(producer, run_id)
    return job


def add(p: Producer, file: Path) -> publishing.Added:
    return publishing.add(p, file, "adder", "ann", AddOptions(outputs=("total",)))


@pytest.mark.usefixtures("two")
def test_the_list_shows_each_versions_publication_time_and_scored_share(scorebeat: Cli, engine: Engine) -> None:
    listed = json.loads(scorebeat("models", "list", "--json").stdout)
    shown = scorebeat("models", "list").output
    execute(engine, "INSERT INTO pairs SELECT i, i, i FROM generate_series(101, 400) i")

    assert [(v["model"], v["published_at"] is not None, v["rows_scored"], v["done"]) for v in listed] == [
        ("adder/1", True, ROWS, 1.0),
        ("adder/2", False, 60, 0.6),
    ]
    assert "60 %" in shown
    assert [v["done"] for v in json.loads(scorebeat("models", "list", "--json").stdout)] == [0.25, 0.15]


@pytest.mark.usefixtures("two")
def test_the_share_counts_only_jobs_of_the_version_and_outlives_a_broken_query(
    scorebeat: Cli, settings: Settings, engine: Engine
) -> None:
    pinned = JOB.replace("sums", "pinned").replace('"adder"', '"adder/2"').replace("pairs", "others")
    execute(engine, "CREATE TABLE others (id bigint PRIMARY KEY, a float8, b float8)")
    execute(engine, "INSERT INTO others SELECT i, i, i FROM generate_series(1, 140) i")
    settings.jobs.write_text(JOB + pinned)
    assert scorebeat("apply").exit_code == 0

    assert [v["done"] for v in json.loads(scorebeat("models", "list", "--json").stdout)] == [1.0, 0.25]
    execute(engine, "ALTER TABLE others RENAME TO gone")
    assert [v["done"] for v in json.loads(scorebeat("models", "list", "--json").stdout)] == [1.0, 0.6]


@pytest.mark.usefixtures("two")
def test_a_version_that_nobody_uses_is_dropped_with_its_predictions_and_its_files(
    scorebeat: Cli, producer: Producer, engine: Engine
) -> None:
    folder = Path(producer.settings.artifacts) / "adder" / "2"
    assert folder.is_dir()

    result = scorebeat("models", "drop", "adder/2", "--yes")

    assert result.output == "model adder/2 is dropped, and 60 predictions with it\n"
    assert query(engine, TABLES) == ["sums__adder_v1"]
    assert not folder.exists()
    assert [v["model"] for v in json.loads(scorebeat("models", "list", "--json").stdout)] == ["adder/1"]
    assert [run["model_version"] for run in json.loads(scorebeat("runs", "--json").stdout)] == [2, 1]
    assert scorebeat("show", "2").exit_code == 0
    assert scorebeat("check").exit_code == 0
    assert query(engine, "SELECT details FROM scorebeat.actions WHERE action = 'model.dropped'") == [
        {"tables": ['predictions."sums__adder_v2"'], "predictions": 60}
    ]


@pytest.mark.usefixtures("two")
def test_a_batch_whose_predictions_were_dropped_is_shown_as_such(
    scorebeat: Cli, producer: Producer, engine: Engine
) -> None:
    (batch, *_) = query(engine, "SELECT id FROM scorebeat.batches WHERE run_id = 2 ORDER BY id")
    assert scorebeat("show", "2", "--batch", str(batch), "--keys").exit_code == 0

    dropping.drop(producer, "adder", 2, "ann")

    for options in ([], ["--keys"], ["--json"]):
        refused(scorebeat("show", "2", "--batch", str(batch), *options), "model adder/2 was dropped on")


@pytest.mark.usefixtures("two")
def test_another_owners_view_that_forbids_a_switch_is_an_ordinary_refusal(
    scorebeat: Cli, producer: Producer, tmp_path: Path, engine: Engine
) -> None:
    file = write_adder(tmp_path / "other.skops", "a", "b")
    publishing.add(producer, file, "adder", "ann", AddOptions(outputs=("another",)))
    execute(engine, "CREATE VIEW mine AS SELECT total FROM predictions.sums")

    refused(scorebeat("publish", "adder/3", "--force"), "would lose or change total", "view mine depends on")


def test_a_dropped_version_is_unavailable_and_its_number_is_not_used_again(
    scorebeat: Cli, two: str, producer: Producer, twice: Path
) -> None:
    dropping.drop(producer, "adder", 2, "ann")

    for command in (["enqueue", two, "--model", "2"], ["publish", "adder/2"], ["models", "drop", "adder/2", "--yes"]):
        refused(scorebeat(*command), "adder/2 was dropped on")
    with pytest.raises(UnknownName, match="was dropped"):
        requeue(producer, 2, "ann")
    again = add(producer, twice)
    assert (again.version.version, again.artifact.is_new) == (3, True)
    assert add(producer, twice).version.version == 3


@pytest.mark.usefixtures("two")
def test_files_of_a_dropped_version_that_are_still_there_are_no_version(
    producer: Producer, twice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store, "remove", lambda *_, **__: (_ for _ in ()).throw(ScorebeatError("the disk is read-only"))
    )

    gone = dropping.drop(producer, "adder", 2, "ann")

    assert gone.note == "the files of adder/2 are still in the store, and nobody uses them: the disk is read-only"
    assert add(producer, twice).version.version == 3


@pytest.mark.usefixtures("two")
def test_a_rollback_passes_over_what_was_dropped(scorebeat: Cli, producer: Producer) -> None:
    publishing.publish_anyway(producer, "adder", 2, "ann")
    publishing.publish_anyway(producer, "adder", 1, "ann")
    dropping.drop(producer, "adder", 2, "ann")

    refused(scorebeat("rollback", "adder"), "no version that was published before")


def test_a_version_that_is_published_pinned_or_in_progress_is_not_dropped(
    scorebeat: Cli, two: str, settings: Settings, producer: Producer, engine: Engine
) -> None:
    refused(scorebeat("models", "drop", "adder/1", "--yes"), "adder/1 is published; publish another version first")
    scorebeat("enqueue", two, "--model", "2")
    refused(scorebeat("models", "drop", "adder/2", "--yes"), "is being scored by run 3", "scorebeat cancel 3")
    cancel(producer, 3, "ann")
    settings.jobs.write_text(JOB.replace('"adder"', '"adder/2"'))
    assert scorebeat("apply", "--force").exit_code == 0
    refused(scorebeat("models", "drop", "adder/2", "--yes"), "adder/2 is pinned by sums in jobs.toml")

    assert query(engine, DROPPED) == []
    assert query(engine, "SELECT count(*) FROM predictions.sums__adder_v2") == [60]


@pytest.mark.usefixtures("two")
def test_a_table_that_others_depend_on_is_not_taken_from_them(scorebeat: Cli, engine: Engine) -> None:
    execute(engine, "CREATE VIEW mine AS SELECT * FROM predictions.sums__adder_v2")

    refused(scorebeat("models", "drop", "adder/2", "--yes"), "other objects depend on", "view mine depends on")

    assert query(engine, DROPPED) == []
    assert query(engine, "SELECT count(*) FROM mine") == [60]


@pytest.mark.usefixtures("two")
def test_nobody_drops_by_mistake(scorebeat: Cli, engine: Engine) -> None:
    refused(scorebeat("models", "drop", "adder/2"), "Drop model adder/2 with 60 predictions?", "use --yes")
    refused(scorebeat("models", "drop", "adder"), "model adder is used by sums")
    refused(scorebeat("models", "drop", "adder/x"), "not a version of a model")
    refused(scorebeat("models", "drop", "adder/9", "--yes"), "there is no model adder/9")

    assert query(engine, DROPPED) == []


def test_a_drop_waits_for_a_concurrent_enqueue_and_then_sees_the_run(
    two: str, producer: Producer, engine: Engine
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as enqueueing:
            open_run(producer, enqueueing, Request(two, "ann", version=2))
            dropped = pool.submit(dropping.drop, producer, "adder", 2, "bob")
            wait_for(lambda: dropped.done() or someone_waits(engine), every=0.01)

        with pytest.raises(UsageError, match="is being scored by run 3"):
            dropped.result(timeout=20)
    assert query(engine, DROPPED) == []


def someone_waits(engine: Engine) -> bool:
    return query(
        engine,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    ) != [0]


@pytest.mark.usefixtures("two")
def test_the_recorded_numbers_hold_what_was_dropped_too(producer: Producer) -> None:
    dropping.drop(producer, "adder", 2, "ann")

    with producer.engine.connect() as connection:
        recorded = model_versions.recorded(connection, "adder")

    assert recorded[2] == ""
    assert len(recorded[1]) == 64
