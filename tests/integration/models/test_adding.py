"""Adding versions: every number has one file, whoever adds at the same time, and wherever the store is."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger.model_versions import NewVersion
from scorebeat.models.store import store
from scorebeat.producer.context import Producer
from tests.integration.publishing.test_versions import add, query, someone_waits, twice, two
from tests.support.cli_fixtures import JOB, Cli, score_all, write_adder
from tests.support.fixtures import wait_for

__all__ = ["twice", "two"]


@pytest.mark.usefixtures("two")
def test_two_who_add_a_models_first_versions_publish_one_of_them(producer: Producer, engine: Engine) -> None:
    def record(connection: Connection, number: int) -> bool:
        return model_versions.add(connection, NewVersion("roses", number, "skops", str(number), {}), "ann").published

    def second() -> bool:
        with producer.engine.begin() as connection:
            return record(connection, 2)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            assert record(first, 1)
            other = pool.submit(second)
            wait_for(lambda: other.done() or someone_waits(engine), every=0.01)

        assert other.result(timeout=20) is False


@pytest.mark.wide
@pytest.mark.usefixtures("two")
def test_a_file_that_is_added_again_restores_its_lost_version(
    producer: Producer, adder: Path, twice: Path, scorebeat: Cli
) -> None:
    home = Path(producer.settings.artifacts) / "adder"
    for lost, file in ((2, twice), (1, adder)):
        shutil.rmtree(home / str(lost))

        result = scorebeat("models", "add", str(file), "--name", "adder", "--outputs", "total")

        assert result.output.startswith(f"model adder/{lost} has its files back")
        assert sorted(path.name for path in home.iterdir()) == ["1", "2"]
        assert scorebeat("check").exit_code == 0
    result = scorebeat("models", "add", str(twice), "--name", "adder", "--outputs", "total")
    assert result.output.startswith("model adder/2 is there already")


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "url"])
def test_concurrent_adders_get_different_numbers_and_every_number_its_own_file(
    producer: Producer, tmp_path: Path, remote: bool
) -> None:
    url = f"file://{tmp_path}/remote"
    settings = producer.settings.model_copy(update={"artifacts": url} if remote else {})
    files = [write_adder(tmp_path / f"{n}.skops", "a", "b", slope=n) for n in (1.0, 2.0, 3.0)]
    producers = [Producer(settings, f"p{n}") for n in range(3)]

    with ThreadPoolExecutor(3) as pool:
        added = list(pool.map(add, producers, files))

    assert sorted(one.version.version for one in added) == [1, 2, 3]
    for one, file in zip(added, files, strict=True):
        v = one.version
        opened = store.open_artifact(settings.artifacts, v.name, v.version, v.digest, cache=tmp_path / "worker")
        assert opened.path.read_bytes() == file.read_bytes()
    if remote:
        assert len(list((tmp_path / "remote" / "adder").iterdir())) == 3  # who lost a number took its files away
    for p in producers:
        p.close()


@pytest.mark.wide
@pytest.mark.usefixtures("pairs")
def test_a_job_runs_on_a_store_behind_a_url_from_add_to_drop(
    scorebeat: Cli, twice: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setenv("SCOREBEAT_ARTIFACTS", f"file://{tmp_path}/remote")
    settings.jobs.write_text(JOB)
    elsewhere = Producer(settings.model_copy(update={"artifacts": f"file://{tmp_path}/remote"}), "test")
    for file in (write_adder(tmp_path / "adder.skops", "a", "b"), twice):
        assert scorebeat("models", "add", str(file), "--name", "adder", "--outputs", "total").exit_code == 0
    scorebeat("apply")
    scorebeat("enqueue", "sums")

    score_all(elsewhere, 1)

    assert query(engine, "SELECT round(total) FROM predictions.sums WHERE id = 10") == [30]
    assert scorebeat("check").exit_code == 0
    assert scorebeat("models", "drop", "adder/2", "--yes").exit_code == 0
    assert [p.name[:2] for p in (tmp_path / "remote" / "adder").iterdir()] == ["1-"]
    next((tmp_path / "remote" / "adder").glob("*/*.skops")).write_bytes(b"altered")
    assert scorebeat("check").exit_code == 0  # the copy is good
    for copy in settings.cache.glob("*/*.skops"):
        copy.write_bytes(b"altered")
    assert scorebeat("check").exit_code == 2
    elsewhere.close()
