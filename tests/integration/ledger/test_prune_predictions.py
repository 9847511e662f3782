"""Pruning takes predictions without a source row and unneeded generations, and never what a reader needs."""

import pytest

from scorebeat.core.jobs.job import Job
from tests.support.cli_fixtures import Cli
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job
from tests.support.old_rows import SOME, aged, fail_rows, job, prune

pytestmark = pytest.mark.wide

__all__ = ["job", "ledger", "trained"]


def test_predictions_and_quarantined_rows_whose_source_row_is_gone_go(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    table = ledger.target(run_id).table
    fail_rows(ledger, run_id, 5, 6)
    aged(ledger, table)
    ledger.sql(f"UPDATE {table} SET scored_at = now() WHERE id = 3")
    ledger.sql("DELETE FROM items WHERE id IN (1, 2, 3, 5)")

    counts = prune(scorebeat)

    assert counts["predictions without a source row"] == 2
    assert counts["quarantined rows without a source row"] == 1
    assert ledger.sql(f"SELECT id FROM {table} ORDER BY id LIMIT 2") == [3, 4]
    assert ledger.sql("SELECT key ->> 0 FROM scorebeat.quarantine") == ["6"]


def test_a_query_that_looks_at_a_window_of_time_costs_no_predictions(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    table = ledger.target(run_id).table
    aged(ledger, table)
    ledger.apply(a_job(query="SELECT id, a, b FROM items WHERE id > 20"))

    result = scorebeat("prune", "--older-than", "90d")

    assert "gives no row for 20 of its 30 old predictions" in result.stderr
    assert ledger.sql(f"SELECT count(*) FROM {table}") == [30]
    assert prune(scorebeat, "--even-most")["predictions without a source row"] == 20
    assert ledger.sql(f"SELECT min(id) FROM {table}") == [21]


def test_a_query_that_fails_costs_no_predictions(scorebeat: Cli, ledger: Ledger, job: Job) -> None:
    run_id = ledger.scored(job)
    table = ledger.target(run_id).table
    aged(ledger, table)
    ledger.sql("DROP TABLE items")

    result = scorebeat("prune", "--older-than", "90d")

    assert result.exit_code == 0
    assert "cannot be compared with it" in result.stderr
    assert ledger.sql(f"SELECT count(*) FROM {table}") == [30]


def test_keys_of_several_columns_and_odd_texts_are_compared_as_they_are(scorebeat: Cli, ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE odd (name text, day date, a float8, b float8, PRIMARY KEY (name, day))")
    ledger.sql(
        "INSERT INTO odd SELECT name, day, 5, 3 FROM unnest(ARRAY['it''s :cutoff', 'a%b', 'ünï', '12:30', 'x\\y'])"
        " AS name, unnest(ARRAY['2026-01-01', '2026-01-02']::date[]) AS day"
    )
    query = "SELECT name, day, a, b FROM odd WHERE name <> ':nobody' AND name NOT LIKE '%%none' -- the end"
    odd = a_job(name="odd", query=query, key=("name", "day"))
    run_id = ledger.scored(odd)
    table = ledger.target(run_id).table
    aged(ledger, table)
    ledger.sql("DELETE FROM odd WHERE day = '2026-01-02' AND name <> 'x\\y'")

    assert prune(scorebeat, "--even-most")["predictions without a source row"] == 4

    left = ledger.sql(f"SELECT name, day::text FROM {table}")
    assert sorted(left) == sorted(ledger.sql("SELECT name, day::text FROM odd"))


def test_old_generations_go_but_never_what_is_shown_or_rolled_back_to(scorebeat: Cli, ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=5))
    job = a_job(rescore="every-run", keep=2)
    for _ in range(3):
        ledger.scored(job)
    ledger.new_version(2)
    ledger.sql("UPDATE scorebeat.model_versions SET retired_at = now() WHERE version = 1")
    ledger.sql("UPDATE scorebeat.model_versions SET published_at = now() WHERE version = 2")
    for _ in range(2):
        ledger.scored(job)
    aged(ledger)

    before = _generations(ledger)
    assert prune(scorebeat)["generations"] == len(before) - len(_generations(ledger))

    assert _generations(ledger) == {(1, 3), (2, 2), (2, 1)}
    assert ledger.check_exact(SOME, "predictions.flowers_job", "id") == 5
    ledger.scored(job)  # and the next generation is made beside them


def _generations(ledger: Ledger) -> set[tuple[int, int]]:
    return {
        (version, generation)
        for version, generation, name in ledger.sql(
            "SELECT model_version, generation, table_name FROM scorebeat.prediction_sets WHERE dropped_at IS NULL"
        )
        if ledger.sql("SELECT to_regclass(:name) IS NOT NULL", name=f'predictions."{name}"') == [True]
    }
