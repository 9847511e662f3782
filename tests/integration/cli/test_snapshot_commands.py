"""Commands on jobs that compute their whole query for each batch, and on those with `snapshot = true`."""

from pathlib import Path

import pytest

from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import snapshots
from tests.support.cli_fixtures import Cli, adder, pairs, refused, score_all, scorebeat

__all__ = ["adder", "pairs", "scorebeat"]

JOB = """
[jobs.sums]
query = "SELECT id, sum(a) AS a, sum(b) AS b FROM more GROUP BY id"
key = "id"
model = "adder"
batch_rows = 1000
"""
ADVICE = "Set snapshot = true: a run then computes it once, into a table of its own"


@pytest.fixture
def grouped(scorebeat: Cli, adder: Path, settings: Settings, producer: Producer) -> Path:
    """A jobs file over 2,000 groups of a table without an index; the model is added."""
    with producer.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE more AS SELECT i % 2000 AS id, i a, 2.0::float8 b FROM generate_series(1, 4000) i"
        )
        connection.exec_driver_sql("ALTER TABLE more ALTER a TYPE float8")
    settings.jobs.write_text(JOB)
    assert scorebeat("models", "add", str(adder), "--name", "adder", "--outputs", "total").exit_code == 0
    return settings.jobs


def test_snapshot_is_recommended_wherever_a_query_would_be_computed_for_each_batch(
    scorebeat: Cli, grouped: Path
) -> None:
    refused(scorebeat("apply"), ADVICE, "allow_full_scans = true")
    grouped.write_text(JOB.replace("1000", "5000"))
    assert scorebeat("apply").exit_code == 0
    grouped.write_text(JOB.replace("1000", "5000") + "allow_full_scans = true\n")
    assert scorebeat("apply").exit_code == 0


@pytest.mark.slow
def test_plan_and_check_recommend_it_for_a_job_that_grew(scorebeat: Cli, grouped: Path, producer: Producer) -> None:
    with producer.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE later AS TABLE more")
        connection.exec_driver_sql("DELETE FROM more WHERE id > 900")
    assert scorebeat("apply").exit_code == 0
    with producer.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO more SELECT * FROM later WHERE id > 900")

    assert ADVICE in scorebeat("plan", "sums").output
    assert ADVICE in scorebeat("check").output
    grouped.write_text(JOB + "snapshot = true\n")
    assert scorebeat("apply").output.splitlines()[0] == "changed job sums"

    planned = scorebeat("plan", "sums").output
    assert "2,000 rows pending in 2 batches" in planned
    assert ADVICE not in planned + scorebeat("check").output


@pytest.mark.slow
def test_show_and_check_print_a_snapshots_size_and_a_batch_its_keys(
    scorebeat: Cli, grouped: Path, producer: Producer
) -> None:
    grouped.write_text(JOB + "snapshot = true\n")
    assert scorebeat("apply").exit_code == 0
    assert scorebeat("enqueue", "sums").exit_code == 0
    plan(producer, 1)

    assert "2,000 rows in scorebeat_work.run_1, 0." in scorebeat("show", "1").output
    assert "snapshots: 1 in the schema scorebeat_work, 0." in scorebeat("check").output
    before = scorebeat("show", "1", "--batch", "2", "--keys").output.splitlines()
    assert before == [str(number) for number in range(1000, 2000)]
    score_all(producer, 1)
    assert scorebeat("show", "1", "--batch", "2", "--keys").output.splitlines() == before
    snapshots.drop_unneeded(producer)
    assert scorebeat("show", "1", "--batch", "2", "--keys").output.splitlines() == before
    assert "2,000 rows in scorebeat_work.run_1, dropped" in scorebeat("show", "1").output
    assert "snapshots:" not in scorebeat("check").output
