"""Bad input gets one clear message and exit code 2, never a stack trace, and nothing is lost by it."""

import os
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from scorebeat.core.settings import Settings
from scorebeat.ops.local.data_folder import locked
from scorebeat.producer.context import Producer
from tests.support.cli_fixtures import Cli, ledger, refused, score_all, write_adder
from tests.support.fixtures import free_port

pytestmark = pytest.mark.wide(quick=10)


@pytest.mark.parametrize("command", ["plan", "enqueue", "pause", "resume"])
def test_an_unknown_job_is_refused_with_similar_names(scorebeat: Cli, job: str, command: str) -> None:
    assert job == "sums"
    refused(scorebeat(command, "sum"), "there is no job 'sum'. Did you mean 'sums'?")


@pytest.mark.parametrize(
    "command", [["show", "9"], ["watch", "9"], ["cancel", "9"], ["requeue", "9"], ["failures", "9"]]
)
@pytest.mark.usefixtures("database")
def test_an_unknown_run_is_refused(scorebeat: Cli, command: list[str]) -> None:
    refused(scorebeat(*command), "there is no run 9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runz"], ["No such command 'runz'", "runs"]),
        (["runs", "--jsn"], ["No such option '--jsn'", "--json"]),
        (["runs", "--limit", "0"], ["--limit"]),
        (["runs", "--limit", "abc"], ["--limit", "'abc' is not a valid integer."]),
        (["enqueue", "sums", "--limit", "abc"], ["'abc' is not a valid integer."]),
        (["show", "one"], ["'one' is not a valid integer"]),
        (["enqueue"], ["Missing argument 'JOB'"]),
        (["show", "1", "--keys"], ["--keys goes with --batch"]),
        (["worker"], ["--device cpu, or --control"]),
        (["worker", "--control", "--device", "cpu"], ["--control goes without"]),
        (["worker", "--device", "gpu"], ["--device gpu is unknown", "cuda:0"]),
        (["worker", "--device", "tpu"], ["tpu is unknown"]),
        (["worker", "--device", "cpu", "--queue", "control"], ["scorebeat worker --control"]),
        (["worker", "--device", "cpu", "--queue", "x;y"], ["cannot name a queue"]),
        (["publish", "adder"], ["'adder' is not a version"]),
    ],
)
def test_wrong_usage_is_refused_with_the_near_names(scorebeat: Cli, arguments: list[str], words: list[str]) -> None:
    refused(scorebeat(*arguments), *words)


@pytest.mark.parametrize(
    "where",
    [
        "true) OR (true",
        "true] IS NOT NULL OR ARRAY[true",
        "true); DROP TABLE pairs; --",
        "id < 10; SELECT 1",
        "id",
        "nobody = 1",
        "id < $1",
        "count(*) > 1",
        "/* open",
        "  ",
    ],
)
def test_where_must_be_one_condition(scorebeat: Cli, job: str, engine: Engine, where: str) -> None:
    before = ledger(engine)
    refused(scorebeat("enqueue", job, "--where", where), "--where")
    assert ledger(engine) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b"\n\n", ["is empty"]),
        (b"1\n2,3\n", ["line 2 has 2 columns; expected 1 (id)"]),
        (b"1\n2\nthree\n4\n", ["line 3 ['three'] is not a key", "bigint"]),
        (b"1\n99999999999999999999\n", ["line 2 ['99999999999999999999'] is not a key", "out of range"]),
        (b"1'); DROP TABLE pairs; --\n", ['line 1 ["1\'); DROP TABLE pairs; --"] is not a key']),
        (b"\xff\n", ["not UTF-8"]),
        (b"1\n2\x00\n", ["line 2"]),
        (b'"1\n', ["not CSV"]),
    ],
)
def test_a_bad_keys_file_is_refused_with_its_line(
    scorebeat: Cli, job: str, engine: Engine, content: bytes, words: list[str]
) -> None:
    before = ledger(engine)
    Path("keys.csv").write_bytes(content)
    refused(scorebeat("enqueue", job, "--keys", "keys.csv"), *words)
    refused(scorebeat("enqueue", job, "--keys", "nowhere.csv"), "nowhere.csv cannot be read")
    assert ledger(engine) == before


@pytest.mark.parametrize("model", ["adder/9", "9", "other/1", "x", "adder/", "/1", "adder/1'; DROP TABLE pairs"])
def test_enqueue_refuses_a_version_that_is_not_there(scorebeat: Cli, job: str, engine: Engine, model: str) -> None:
    before = ledger(engine)
    refused(scorebeat("enqueue", job, "--model", model))
    assert ledger(engine) == before


def test_a_model_file_that_cannot_be_used_is_refused(scorebeat: Cli, job: str, adder: Path, engine: Engine) -> None:
    assert job == "sums"
    before = ledger(engine)
    for name, content in (("m.pkl", b"x"), ("m.skops", adder.read_bytes()[:500]), ("m.onnx", b"x"), ("m", b"x")):
        Path(name).write_bytes(content)
        refused(scorebeat("models", "add", name, "--name", "other"), name)
    refused(scorebeat("models", "add", "nowhere.skops", "--name", "other"), "is not there")
    refused(scorebeat("models", "add", str(adder), "--name", "x'; DROP TABLE pairs; --"), "not a model's name")
    refused(scorebeat("models", "add", str(adder), "--name", "other", "--inputs", "a,,b"), "--inputs")
    refused(scorebeat("publish", "addr/1"), "Did you mean 'adder'?")
    refused(scorebeat("publish", "adder/7"), "no model adder/7")
    refused(scorebeat("rollback", "adder"), "nothing to roll back to")
    assert ledger(engine) == before


def test_a_database_that_is_down_or_refuses_us_is_reported_without_the_password(
    scorebeat: Cli, job: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"postgresql://ann:s3cret-word@127.0.0.1:{free_port()}/shop"
    stranger = make_url(str(settings.database_url)).set(password="s3cret-word").render_as_string(hide_password=False)
    for url in (nobody, stranger):
        monkeypatch.setenv("SCOREBEAT_DATABASE_URL", url)
        for command in (["runs"], ["enqueue", job, "--wait"], ["migrate"], ["apply"], ["worker", "--control"]):
            message = refused(scorebeat(*command), "PostgreSQL at", "nothing was changed")
            assert "s3cret-word" not in message


def test_a_broker_that_is_down_or_refuses_us_is_reported_and_nothing_is_enqueued(
    scorebeat: Cli, job: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"redis://:s3cret-word@127.0.0.1:{free_port()}/0"
    stranger = os.environ["SCOREBEAT_BROKER_URL"].replace("redis+socket://", "redis+socket://ann:s3cret-word@")
    before = ledger(engine)
    for url in (nobody, stranger):
        monkeypatch.setenv("SCOREBEAT_BROKER_URL", url)
        message = refused(scorebeat("enqueue", job), "the broker at", "nothing was changed")
        assert "s3cret-word" not in message
        assert scorebeat("check").exit_code == 2
    assert ledger(engine) == before


def test_a_url_that_is_missing_is_named(scorebeat: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREBEAT_BROKER_URL")
    refused(scorebeat("runs"), "SCOREBEAT_BROKER_URL is not set, SCOREBEAT_DATABASE_URL is")
    monkeypatch.delenv("SCOREBEAT_DATABASE_URL")
    for command in (["runs"], ["enqueue", "sums"], ["migrate"], ["check"]):
        refused(scorebeat(*command), "SCOREBEAT_DATABASE_URL is not set")
    monkeypatch.setenv("SCOREBEAT_DATABSE_URL", "x")
    refused(scorebeat("runs"), "Did you mean SCOREBEAT_DATABASE_URL?")
    assert not Path("data").exists()


def test_a_second_up_on_the_same_folder_is_refused(
    scorebeat: Cli, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCOREBEAT_BROKER_URL")
    refused(scorebeat("up"), "SCOREBEAT_BROKER_URL is not set")
    monkeypatch.delenv("SCOREBEAT_DATABASE_URL")
    with locked(settings.data):
        refused(scorebeat("up"), "is in use", f"process {os.getpid()}")


@pytest.mark.quick
def test_names_full_of_sql_are_names_and_nothing_else(
    scorebeat: Cli, settings: Settings, engine: Engine, producer: Producer, tmp_path: Path
) -> None:
    key, a, b, out = 'i"d; DROP TABLE "odd', "a'; DELETE FROM odd; --", "b\"'$$ %s", 'total"; --'
    columns = {name: '"' + name.replace('"', '""') + '"' for name in (key, a, b, out)}
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE odd ({columns[key]} text PRIMARY KEY, {columns[a]} float8, {columns[b]} float8)"
        )
        connection.exec_driver_sql(
            "INSERT INTO odd SELECT 'k''; DROP TABLE odd; --' || i, i, i FROM generate_series(1, 30) i"
        )
    settings.jobs.write_text(
        f"[jobs.odd]\nquery = 'SELECT * FROM odd'\nkey = '''{key}'''\nmodel = 'odd'\nbatch_rows = 7\n"
    )
    model = write_adder(tmp_path / "odd.skops", a, b)
    assert scorebeat("models", "add", str(model), "--name", "odd", "--outputs", out).exit_code == 0
    assert scorebeat("apply").exit_code == 0
    Path("keys.csv").write_text("k'; DROP TABLE odd; --5\n")
    for run_id, options in enumerate((["--keys", "keys.csv"], []), start=1):
        assert scorebeat("enqueue", "odd", *options).exit_code == 0
        score_all(producer, run_id)
        assert scorebeat("watch", str(run_id)).exit_code == 0

    right = (
        f"SELECT count(*) FROM odd JOIN predictions.odd p USING ({columns[key]})"
        f" WHERE abs(p.{columns[out]} - odd.{columns[a]} - odd.{columns[b]}) < 1e-9"
    )
    with engine.connect() as connection:
        assert connection.exec_driver_sql(right).scalar_one() == 30
    assert "DROP TABLE odd" in scorebeat("show", "2", "--batch", "2", "--keys").output
    for name in ("odd'; DROP TABLE odd; --", 'odd" --', "%s", "odd\n"):
        for command in ("plan", "enqueue", "pause"):
            refused(scorebeat(command, name), "there is no job")
        refused(scorebeat("publish", f"{name}/1"), "there is no model")
        refused(scorebeat("runs", "--job", name), "there is no job")
    with engine.connect() as connection:
        assert connection.exec_driver_sql(right).scalar_one() == 30
