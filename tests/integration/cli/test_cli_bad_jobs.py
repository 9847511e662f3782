"""A bad jobs.toml, query or key gets one clear message and exit code 2, and the jobs that were there stay."""

import pytest
from sqlalchemy import Engine

from scorebeat.core.settings import Settings
from scorebeat.ops.local.prepare import prepare
from scorebeat.producer.context import Producer
from tests.support.cli_fixtures import JOB, ROWS, Cli, ledger, refused, score_all

pytestmark = pytest.mark.wide(quick=10)


def test_all_mistakes_of_jobs_toml_come_at_once_each_with_its_line(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine
) -> None:
    before = ledger(engine)
    settings.jobs.write_text(
        JOB + '\n[jobs.a]\nquery = "SELECT 1"\nkey = "id"\nmodel = "m"\nschedule = "61 * * * *"\ntimezone = "Mars"\n'
        'batch_rows = 0\nqueu = "cpu"\n[jobs.sums]\nquery = "SELECT 2"\n'
    )

    message = refused(scorebeat("apply"), "jobs.toml: 7 mistakes").splitlines()

    for line, word in ((12, "schedule"), (13, "timezone"), (14, "batch_rows"), (15, "'queue'"), (16, "jobs.sums")):
        assert any(part.startswith(f"  line {line}, ") and word in part for part in message)
    assert ledger(engine) == before
    assert scorebeat("plan", job).exit_code == 0


def test_a_jobs_file_that_is_not_there_or_not_toml_is_refused(scorebeat: Cli, job: str, settings: Settings) -> None:
    refused(scorebeat("apply", "--file", "nowhere.toml"), "nowhere.toml: no such file")
    settings.jobs.write_text("[jobs.sums\n")
    refused(scorebeat("apply"), "line 1")
    assert scorebeat("plan", job).exit_code == 0


@pytest.mark.parametrize("content", ["", "# [jobs.sums]\n", "[jobs]\n"])
def test_a_jobs_file_without_a_job_removes_none_unless_it_is_meant(
    scorebeat: Cli, job: str, settings: Settings, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.jobs.write_text(content)

    message = refused(scorebeat("apply"), "no [jobs.NAME]", "1 job (sums)", "Nothing was removed", "apply --remove-all")
    prepare(settings)

    assert "no [jobs.NAME]" in capsys.readouterr().err
    assert "sums; these go on" in scorebeat("check").output
    assert scorebeat("plan", job).exit_code == 0, message
    assert scorebeat("apply", "--remove-all").output == "removed job sums\n"
    refused(scorebeat("plan", job), "there is no job 'sums'")
    assert scorebeat("apply").output == "nothing changed: 0 jobs as before\n"


def test_to_remove_every_job_is_refused_while_the_file_holds_one(scorebeat: Cli, job: str) -> None:
    refused(scorebeat("apply", "--remove-all"), "holds sums", "Nothing was removed")

    assert scorebeat("plan", job).exit_code == 0


def test_the_runs_of_a_removed_job_are_shown(scorebeat: Cli, job: str, settings: Settings) -> None:
    scorebeat("enqueue", job)
    settings.jobs.write_text("")
    scorebeat("apply", "--remove-all")

    shown = scorebeat("runs", "--job", job)

    assert shown.exit_code == 0
    assert "sums" in shown.stdout
    refused(scorebeat("runs", "--job", "sumz"), "there is no job 'sumz'")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT id, a, b FROM pairs; SELECT 1", ["several statements"]),
        ("SELECT 1; DROP TABLE pairs", ["several statements"]),
        ("INSERT INTO pairs VALUES (0, 0, 0) RETURNING id, a, b", ["not one SELECT"]),
        ("WITH d AS (DELETE FROM pairs RETURNING *) SELECT * FROM d", ["not one SELECT"]),
        ("DELETE FROM pairs", ["not one SELECT"]),
        ("SELECT id, a, b FROM pears", ['relation \\"pears\\" does not exist']),
        ("SELECT id, a, b FROM pairs) AS q; DROP TABLE pairs; --", ["jobs.sums.query"]),
        ("SELECT a, b FROM pairs", ["no column 'id'", "it returns a, b"]),
        ("SELECT id, a FROM pairs", ["b float64", "a float64"]),
        ("SELECT id, a, b::text AS b FROM pairs", ["b", "float64", "text"]),
        ("SELECT id, a, point(b, b) AS b FROM pairs", ["column 'b' is point"]),
        ("SELECT id, a, b, b FROM pairs", ["'b' twice"]),
    ],
)
def test_a_query_that_cannot_be_used_is_refused_and_the_old_one_stays(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine, query: str, words: list[str]
) -> None:
    before = ledger(engine)
    settings.jobs.write_text(JOB.replace("SELECT id, a, b FROM pairs", query))

    refused(scorebeat("apply"), "jobs.sums", *(word.replace('\\"', '"') for word in words))

    assert ledger(engine) == before
    assert scorebeat("plan", job).output.startswith("job sums, model adder/1\n100 rows pending")


def test_a_query_may_end_in_a_comment(scorebeat: Cli, job: str, settings: Settings, producer: Producer) -> None:
    settings.jobs.write_text(JOB.replace("FROM pairs", "FROM pairs -- all of them"))
    assert scorebeat("apply").exit_code == 0
    scorebeat("enqueue", job)
    score_all(producer, 1)
    assert scorebeat("watch", "1").exit_code == 0


def test_one_bad_job_keeps_the_good_ones_of_its_file_out_and_all_bad_are_reported(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine
) -> None:
    before = ledger(engine)
    others = [JOB.replace("jobs.sums", f"jobs.{name}").replace("SELECT id", f"SELECT {column}") for name, column in
              (("good", "id"), ("bad", "x"), ("worse", "y"))]  # fmt: skip
    settings.jobs.write_text(JOB + "".join(others))

    refused(scorebeat("apply"), "2 jobs cannot be applied", "jobs.bad.query", "jobs.worse.query")

    assert ledger(engine) == before
    assert scorebeat("plan", job).exit_code == 0
    refused(scorebeat("plan", "good"), "there is no job 'good'")


GROUPED = "SELECT id, sum(a) AS a, sum(b) AS b FROM pairs GROUP BY id"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT id / 2 AS id, a, b FROM pairs", ["unique and not NULL", ") 2 times"]),
        ("SELECT nullif(id, 7) AS id, a, b FROM pairs", ["unique and not NULL", "(NULL) 1 times"]),
        (GROUPED, ["returns more than 1,000 rows", "allow_full_scans"]),
    ],
)
def test_a_job_that_plan_or_a_run_would_refuse_is_not_applied(
    scorebeat: Cli, job: str, settings: Settings, engine: Engine, query: str, words: list[str]
) -> None:
    without_an_index(engine, 20_000)
    before = ledger(engine)
    settings.jobs.write_text(JOB.replace("SELECT id, a, b FROM pairs", query))

    for command in (["apply"], ["apply", "--dry-run"]):
        refused(scorebeat(*command), "jobs.sums", "Nothing was applied", *words)

    assert ledger(engine) == before
    assert scorebeat("plan", job).exit_code == 0


def without_an_index(engine: Engine, rows: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE pairs DROP CONSTRAINT IF EXISTS pairs_pkey")
        connection.exec_driver_sql(f"INSERT INTO pairs SELECT i, i, i FROM generate_series({ROWS} + 1, {rows}) i")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE pairs")


def test_plan_check_and_the_run_refuse_keys_that_repeat_since_apply(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    without_an_index(engine, ROWS)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO pairs VALUES (7, 1, 1)")

    refused(scorebeat("plan", job), "unique and not NULL", "(7) 2 times")
    checked = scorebeat("check")
    scorebeat("enqueue", job)
    score_all(producer, 1)
    watched = scorebeat("watch", "1")

    assert (checked.exit_code, watched.exit_code) == (2, 1)
    assert "unique and not NULL" in checked.output
    assert "unique and not NULL" in watched.output


def test_a_job_whose_table_outgrew_a_batch_is_scored_and_its_cost_is_reported(
    scorebeat: Cli, job: str, settings: Settings, producer: Producer, engine: Engine
) -> None:
    without_an_index(engine, 1_000)
    settings.jobs.write_text(JOB.replace("SELECT id, a, b FROM pairs", GROUPED).replace("= 40", "= 600"))
    assert scorebeat("apply").output == "changed job sums\n"
    assert "cannot be cut" not in scorebeat("plan", job).stderr
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO pairs SELECT i, i, i FROM generate_series(1001, 1001) i")

    planned, checked, again = scorebeat("plan", job), scorebeat("check"), scorebeat("apply")
    scorebeat("enqueue", job)
    score_all(producer, 1)

    assert planned.exit_code == 0
    assert "returns more than 1,000 rows" in planned.stderr
    assert "warning  job sums: jobs.sums.query cannot be cut by its key" in checked.output
    assert again.output.startswith("nothing changed")
    assert scorebeat("watch", "1").exit_code == 0


def test_a_job_without_its_model_is_not_enqueued(scorebeat: Cli, pairs: None, settings: Settings) -> None:
    assert pairs is None
    settings.jobs.write_text(JOB)
    assert scorebeat("apply").exit_code == 0

    refused(scorebeat("enqueue", "sums"), "model 'adder' has no version yet", "scorebeat models add")
    refused(scorebeat("plan", "sums"), "has no version yet")
