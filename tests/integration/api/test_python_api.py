"""The public Python API, as a notebook and a scheduler's task use it."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LinearRegression
from sqlalchemy import Connection

import scorebeat
from scorebeat.core.queues import CONTROL_QUEUE, PLAN_QUEUE
from scorebeat.db.reports import results
from scorebeat.db.reports.pages import run_pages
from tests.support.source_tables import KEYS
from tests.support.system import System, own_system

ROWS = pd.DataFrame({"a": [1.5, -2.0, 40.25, 0.5], "b": [3.0, 0.1, -7.5, 2.0], "note": ["w", "x", "y", "z"]})
SUM = LinearRegression().fit(ROWS[["a", "b"]], ROWS["a"] * 2 + ROWS["b"])

LISTED = scorebeat.Job(name="listed", query="SELECT 1 AS id", key=("id",), model="sums")
LONG_NAMED = LISTED.model_copy(update={"name": "long_named", "model": "m" * 41})
USUAL = {"job": "iris", "model": "iris", "rows": [], "version": "iris/1", "source": "m.skops", "name": "m", "number": 1}
"""Values of the arguments that a call needs."""
ARGUMENTS = [
    (api, method, parameter)
    for api in (scorebeat.Client, scorebeat.Models, scorebeat.Run)
    for method, called in vars(api).items()
    if inspect.isfunction(called) and not method.startswith("_")
    for parameter in inspect.signature(called).parameters
    if parameter != "self"
]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def workers(system: System) -> None:
    for queue in ("cpu", CONTROL_QUEUE, PLAN_QUEUE):
        system.programs.worker(queue, name=queue)


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[scorebeat.Client]:
    settings = system.settings
    with scorebeat.connect(
        settings.database_url, broker_url=settings.broker_url, artifacts=settings.artifacts, cache=settings.cache
    ) as made:
        yield made


@pytest.fixture(scope="module")
def model(client: scorebeat.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "sums.skops"
    skops.io.dump(SUM, path)
    return str(client.models.add(path, "sums").version)


def table(system: System, name: str, rows: pd.DataFrame, key: str = "bigint") -> None:
    system.execute(f"CREATE TABLE {name} (id {key} PRIMARY KEY, a float8, b float8)")
    for at, row in enumerate(rows.itertuples()):
        a, b = (None if pd.isna(value) else float(value) for value in (row.a, row.b))
        system.execute(f"INSERT INTO {name} VALUES (CAST(:id AS {key}), :a, :b)", id=str(at), a=a, b=b)


def jobs_file(folder: Path, *names: str) -> Path:
    blocks = [f'[jobs.{name}]\nquery = "SELECT id, a, b FROM {name}"\nkey = "id"\nmodel = "sums"\n' for name in names]
    (folder / "jobs.toml").write_text("\n".join(blocks))
    return folder / "jobs.toml"


def expected(rows: pd.DataFrame) -> Any:
    return SUM.predict(rows[["a", "b"]])


@pytest.mark.usefixtures("workers")
def test_a_notebook_scores_a_table_and_reads_the_result_of_its_library(
    system: System, client: scorebeat.Client, model: str, tmp_path: Path
) -> None:
    table(system, "notebook", ROWS)
    assert client.apply(jobs_file(tmp_path, "notebook"), dry_run=True).added == ["notebook"]
    assert client.apply(tmp_path / "jobs.toml").added == ["notebook"]

    run = client.enqueue("notebook", run_key="nightly-1")
    line = run.wait(timeout=120)

    assert (run.is_new, line.state, line.rows_scored) == (True, "succeeded", 4)
    assert client.enqueue("notebook", run_key="nightly-1").id == run.id
    assert not client.enqueue("notebook", run_key="nightly-1").is_new
    assert run.progress == scorebeat.Progress(line.state, 4, 4, 0, 0.0, None)
    assert run.failures() == []
    found = client.predictions("notebook").to_pandas().sort_values("id")
    assert found["id"].tolist() == [0, 1, 2, 3]
    assert np.allclose(found["value"], expected(ROWS), rtol=0, atol=1e-12)
    assert [each.id for each in client.runs("notebook")] == [run.id]
    (job,) = [each for each in client.jobs() if each.name == "notebook"]
    assert (job.last_run, job.model_version, str(job.last_state)) == (run.id, 1, "succeeded")
    assert [str(each) for each in client.models.versions() if each.name == "sums"] == [model]


@pytest.mark.slow
@pytest.mark.usefixtures("workers", "model")
def test_rows_by_key_by_condition_and_from_quarantine(system: System, client: scorebeat.Client, tmp_path: Path) -> None:
    rows = ROWS.assign(a=[1.5, np.nan, 40.25, 0.5])
    table(system, "picked", rows, "numeric")
    client.apply(jobs_file(tmp_path, "picked"))

    assert client.enqueue("picked", keys=[np.int64(2)]).wait(120).rows_scored == 1
    assert client.enqueue("picked", where="b > 2.5", limit=5).wait(120).rows_scored == 1
    run = client.enqueue("picked")
    with pytest.raises(scorebeat.RunNotSucceeded, match=r"run \d+ of job picked is partial, 1 rows scored, 1 failed"):
        run.wait(120)
    (group,) = run.failures()
    assert (group.count, group.example) == (1, "key 1")
    with pytest.raises(scorebeat.RunNotSucceeded, match=r"1 failed: `scorebeat failures .*NaN.* \(key 1\)$"):
        run.wait(120)
    assert run.wait(120, max_quarantined=1).rows_failed == 1
    system.execute("UPDATE picked SET a = -2.0 WHERE id = 1")
    assert run.requeue(group=group) == 1
    assert run.wait(120).rows_failed == 0

    found = client.predictions("picked")
    assert found.schema.field("id").type == pa.string()  # Arrow has no numeric of any precision
    by_key = dict(zip(found["id"].to_pylist(), found["value"].to_pylist(), strict=True))
    assert by_key == pytest.approx({str(at): value for at, value in enumerate(expected(ROWS))})


@pytest.mark.usefixtures("workers")
def test_rows_of_a_dead_batch_are_not_excused_as_quarantined_ones(system: System, client: scorebeat.Client) -> None:
    run = client.enqueue(system.job("dying", rows=8, batch_rows=4, queue="dying").name)
    system.until_planned(run.id)
    system.execute(
        "UPDATE scorebeat.batches SET state = 'dead', attempts_left = 0, error = 'Broken: oh', finished_at = now(),"
        " sent_at = NULL WHERE run_id = :run AND number = 1",
        run=run.id,
    )

    system.programs.worker("dying", name="dying")

    with pytest.raises(
        scorebeat.RunNotSucceeded, match=r"is partial, 4 rows scored, 0 failed: 1 of 2 batches are dead"
    ):
        run.wait(120, max_quarantined=100)
    assert run.progress.rows_failed == 0
    with pytest.raises(scorebeat.UsageError, match="max_quarantined is -1; expected a number of rows"):
        run.wait(120, max_quarantined=-1)


@pytest.mark.usefixtures("workers", "model")
def test_predictions_and_rows_are_frames_of_polars_too(
    system: System, client: scorebeat.Client, tmp_path: Path
) -> None:
    table(system, "bears", ROWS)
    client.apply(jobs_file(tmp_path, "bears"))
    client.enqueue("bears").wait(120)

    found = pl.DataFrame(client.predictions("bears")).sort("id")
    frame = pl.DataFrame(ROWS.to_dict("list")).with_columns(pl.col("a").cast(pl.Float32))
    predicted = client.predict("sums", frame)

    assert dict(found.select("id", "value").schema) == {"id": pl.Int64, "value": pl.Float64}
    assert found["id"].to_list() == [0, 1, 2, 3]
    assert found["value"].to_list() == pytest.approx(expected(ROWS).tolist(), abs=1e-12)
    assert isinstance(predicted, pl.DataFrame)
    assert predicted["value"].to_list() == pytest.approx(expected(ROWS).tolist(), abs=1e-5)
    with pytest.raises(scorebeat.SignatureError, match="a is null, which the model does not take"):
        client.predict("sums", frame.with_columns(a=pl.Series([1.0, None, 2.0, 3.0])))


def test_rows_are_predicted_as_a_batch_would_be(client: scorebeat.Client, model: str) -> None:
    frame = ROWS.set_index(pd.Index([7, 5, 3, 1]))

    found = client.predict("sums", frame)

    assert found.index.tolist() == [7, 5, 3, 1]
    assert found["value"].tolist() == pytest.approx(expected(ROWS).tolist(), abs=1e-12)
    rows = ROWS[["a", "b"]].to_dict("records")
    assert client.predict(model, rows) == [{"value": value} for value in found["value"]]
    assert client.predict(model, pa.Table.from_pylist(rows))["value"].to_pylist() == found["value"].tolist()
    assert client.predict(model, frame.iloc[:0])["value"].tolist() == []
    with pytest.raises(scorebeat.SignatureError, match="NaN"):
        client.predict(model, frame.assign(a=[1.0, np.nan, 2.0, 3.0]))
    with pytest.raises(scorebeat.SignatureError, match="b: the query has no such column"):
        client.predict(model, frame[["a"]])
    with pytest.raises(scorebeat.SignatureError, match="a int was given; expected a DataFrame"):
        client.predict(model, 7)
    with pytest.raises(scorebeat.UnknownName, match="there is no model 'sum'"):
        client.predict("sum", frame)


def test_columns_that_the_model_has_not_may_hold_anything(client: scorebeat.Client, model: str) -> None:
    odd = ROWS.assign(note=[1, "x", ["y"], None])
    rows = odd.to_dict("records")

    wanted = client.predict(model, ROWS)["value"].tolist()

    assert client.predict(model, odd)["value"].tolist() == wanted
    assert client.predict(model, pd.concat([odd, odd[["note"]]], axis=1))["value"].tolist() == wanted
    assert client.predict(model, rows) == [{"value": value} for value in wanted]
    assert client.predict(model, []) == []


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([1, 2], "row 0 is a int"),
        ([{"a": 1.0, "b": 2.0}, None], "row 1 is a NoneType"),
        ([("a", 1)], "row 0 is a tuple"),
        ("a", "a str was given"),
    ],
)
def test_rows_that_are_no_table_are_refused_with_the_expected_kinds(
    client: scorebeat.Client, model: str, rows: Any, wrong: str
) -> None:
    with pytest.raises(scorebeat.SignatureError, match=rf"{wrong}; expected a DataFrame, .* list of dicts .* input"):
        client.predict(model, rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.runs(limit=-1), "limit is -1; expected a number of runs, from 1 to"),
        (lambda client: client.runs(limit="5"), "limit is '5'; expected a number of runs"),
        (lambda client: client.runs(limit=10**19), "limit is 10000000000000000000; expected"),
        (lambda client: client.run("seven"), "number is 'seven'; expected the number of a run"),
        (lambda client: client.enqueue("any", limit=1.5), "limit is 1.5; expected a number of rows"),
    ],
)
def test_a_wrong_count_is_refused_by_its_name(
    client: scorebeat.Client, call: Callable[[scorebeat.Client], object], message: str
) -> None:
    with pytest.raises(scorebeat.UsageError, match=message):
        call(client)


@pytest.mark.parametrize(("api", "method", "parameter"), ARGUMENTS)
def test_an_argument_of_a_wrong_type_is_refused_by_its_name(
    client: scorebeat.Client, api: type, method: str, parameter: str
) -> None:
    of = {scorebeat.Client: client, scorebeat.Models: client.models, scorebeat.Run: scorebeat.Run(client._producer, 1)}
    called = getattr(of[api], method)
    needed = [name for name, one in inspect.signature(called).parameters.items() if one.default is one.empty]

    with pytest.raises(scorebeat.UsageError, match=rf"\b{parameter} (is|are) .*\bobject\b.*; expected"):
        called(**{name: USUAL[name] for name in needed} | {parameter: object()})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.predict(7, [{"a": 1.0}]), "model is 7, a int; expected the name of a model"),
        (lambda client: client.enqueue("any", keys=np.ones((2, 2))), "keys.0 is '1.0', a float; expected"),
        (lambda client: client.enqueue("any", keys=5), r"keys is 5, a int; expected several keys, such as \[42\]"),
        (lambda client: client.enqueue("any", rescore="no"), "rescore is 'no', a str; expected True or False"),
        (lambda client: client.enqueue("any", parameters={3: "x"}), "a name in parameters is 3, a int"),
        (lambda client: client.models.add("m.skops", "m", inputs="a,b"), "inputs is 'a,b', a str; expected a list"),
        (lambda client: client.models.add("m.skops", "m", trust=["a", 1]), "trust.1 is 1, a int; expected a text"),
        (lambda client: client.models.add("m.skops", "m", files=[b"f"]), "files.0 is b'f', a bytes; expected the path"),
        (lambda _client: scorebeat.connect(5), "database_url is 5, a int; expected a URL"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_a_value_of_a_wrong_type_is_refused_before_anything_is_done(
    client: scorebeat.Client, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(scorebeat.UsageError, match=message):
        call(client)


def test_a_statement_past_its_time_limit_raises_an_error_of_the_product(
    system: System, client: scorebeat.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PATIENCE", "50ms")
    with system.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
        connection.exec_driver_sql("LOCK TABLE scorebeat.runs IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(scorebeat.ScorebeatError, match=r"ended a statement: .*timeout.*undone; try again"):
            client.runs()


def test_an_error_of_the_database_shows_no_value_of_a_row(
    client: scorebeat.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: Connection, **_: object) -> None:
        connection.exec_driver_sql("SELECT CAST('secret' AS int)")

    monkeypatch.setattr(run_pages, "runs", fails)

    with pytest.raises(scorebeat.ScorebeatError, match="PostgreSQL refused a statement: ") as caught:
        client.runs()

    assert "secret" not in str(caught.value)


def test_listed_jobs_remove_those_of_their_owner_and_of_no_file(
    system: System, client: scorebeat.Client, model: str, tmp_path: Path
) -> None:
    for name in ("of_file", "first", "second"):
        table(system, name, ROWS)
    client.apply(jobs_file(tmp_path, "of_file"))
    first, second = (
        scorebeat.Job(name=name, query=f"SELECT id, a, b FROM {name}", key=("id",), model=model.partition("/")[0])
        for name in ("first", "second")
    )

    assert client.apply([first, second], owner="notebook").added == ["first", "second"]
    applied = client.apply([second], owner="notebook", prune=True)

    assert (applied.removed, applied.same) == (["first"], ["second"])
    assert {"of_file", "second"} <= {line.name for line in client.jobs()}
    adopted = client.apply(jobs_file(tmp_path, "of_file", "second"), adopt=True)  # other tests own all jobs
    assert adopted.same == ["of_file", "second"]


@pytest.mark.parametrize(
    ("jobs", "options", "message"),
    [
        (["jobs.toml"], {"owner": "notebook"}, r"jobs.0 is 'jobs.toml', a str; expected a scorebeat.Job"),
        (7, {}, "jobs is a int; expected the path of a jobs file"),
        ([LISTED], {}, "name their owner, such as owner='notebook'"),
        ([LISTED], {"prune": True}, "name their owner, such as owner='notebook'"),
        (LISTED, {"owner": "notebook"}, "jobs is a Job; expected .* a list of scorebeat.Job"),
        ([LISTED], {"owner": " "}, "owner is ' '; expected a name"),
        ([LISTED, LISTED], {"owner": "notebook"}, "jobs has listed twice"),
        (iter([LISTED, LISTED]), {"owner": "notebook"}, "jobs has listed twice"),
        ([LISTED.model_copy(update={"deadline": "soon"})], {"owner": "notebook"}, "jobs.0.deadline: "),
        ("jobs.toml", {"owner": "notebook"}, "owner is for a list of jobs"),
        (
            [LISTED, LONG_NAMED],
            {"owner": "notebook"},
            "jobs.1.model: 'm+' cannot name a model; .* at most 40 char",
        ),
    ],
)
def test_jobs_that_cannot_be_applied_are_refused_with_the_reason(
    client: scorebeat.Client, jobs: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(scorebeat.UsageError, match=message):
        client.apply(jobs, **options)


def test_values_that_a_program_set_are_applied_as_a_file_s_are(client: scorebeat.Client, model: str) -> None:
    query, own = "SELECT 1 AS id, 1.5::float8 AS a, 2.5::float8 AS b", model.partition("/")[0]
    changed = LISTED.model_copy(update={"name": "of_a_copy", "query": query, "model": own, "deadline": "2h"})

    client.apply([changed], owner="jobs.toml")  # which owns the jobs of the other tests

    assert client.apply([changed], owner="jobs.toml").same == ["of_a_copy"]


def test_a_version_that_a_call_returned_is_taken_where_a_version_is_named(client: scorebeat.Client, model: str) -> None:
    (version,) = (one for one in client.models.versions() if str(one) == model)

    with pytest.raises(scorebeat.UsageError, match=f"{model} is the published version|nothing to compare|itself"):
        client.models.compare(version, version)


def test_runs_of_a_job_that_never_was_are_an_error(client: scorebeat.Client) -> None:
    with pytest.raises(scorebeat.UnknownName, match="there is no job 'nosuch'"):
        client.runs("nosuch")


@pytest.mark.parametrize("keys", ["uuid", "text", "two columns"])
def test_predictions_of_every_kind_of_key_are_an_arrow_table(
    system: System, client: scorebeat.Client, keys: str
) -> None:
    job = system.job(f"keyed_{keys.split(maxsplit=1)[0]}", KEYS[keys], 20)

    found = client.predictions(job.name)  # scored by nobody yet: the view is there

    assert found.num_rows == 0
    assert found.column_names[: len(job.key)] == list(job.key)


def test_a_run_that_is_waited_for_too_shortly_goes_on(system: System, client: scorebeat.Client) -> None:
    job = system.job("nobody", queue="nobody_serves_it", rows=8)
    run = client.enqueue(job.name)

    with pytest.raises(scorebeat.RunStillOpen, match=rf"run {run.id} of job nobody is (planning|running) after 0.2 s"):
        run.wait(0.2)
    with pytest.raises(TimeoutError):
        run.wait(0)
    with pytest.raises(scorebeat.RunOpen, match=f"run {run.id}"):
        client.enqueue(job.name)
    assert run.cancel()
    assert str(run.wait(60, check=False).state) == "cancelled"


@pytest.fixture(scope="module")
def refusing(system: System) -> str:
    return system.job("refusing", rows=4).name


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job": "sums_of_nothing"}, "sums_of_nothing"),
        ({"keys": [1.5]}, r"keys.0 is '1.5', a float; expected a text, a whole number"),
        ({"keys": [(1, 2)]}, r"keys.0 has 2 columns; expected 1 \(id\)"),
        ({"keys": ["one"]}, r"keys.0 \['one'\] is not a key"),
        (
            {"where": f"a < 1 {'OR a < 1 ' * 200_000}"},
            "where has 1,800,006 characters; expected at most 1,000,000 bytes",
        ),
        ({"where": "nosuch = 1"}, "where 'nosuch = 1' is not one condition"),
        ({"model": "other/1"}, "model 'other/1' is another model"),
        ({"due_at": "yesterday"}, "due_at"),
        ({"parameters": {"least": object()}}, "parameters.least is"),
        ({"run_key": " "}, "the run key is blank"),
        ({"limit": 0}, "limit is 0; expected a number of rows, from 1 to"),
        ({"limit": -5}, "limit is -5; expected a number of rows, from 1 to"),
        ({"keys": []}, "the list of keys is empty"),
        ({"keys": "42"}, r"keys is '42'; expected several keys, such as \['42'\]"),
        ({"keys": [None]}, "keys.0 is 'None', a NoneType"),
        ({"limit": 3, "rescore": True}, "scored anew all together"),
    ],
)
def test_a_request_that_cannot_be_enqueued_is_refused_and_enqueues_nothing(
    system: System, client: scorebeat.Client, refusing: str, options: dict[str, Any], message: str
) -> None:
    before = system.query("SELECT count(*) FROM scorebeat.runs")

    with pytest.raises(scorebeat.UsageError, match=message):
        client.enqueue(**({"job": refusing} | options))

    assert system.query("SELECT count(*) FROM scorebeat.runs") == before


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"database_url": "mysql://x/y"}, scorebeat.SettingsError, "SCOREBEAT_DATABASE_URL"),
        ({"databse_url": "x"}, scorebeat.SettingsError, "Did you mean database_url"),
        ({"database_url": "postgresql://nobody@127.0.0.1:1/x"}, scorebeat.ServiceDown, "cannot be used"),
        ({}, scorebeat.SettingsError, "SCOREBEAT_DATABASE_URL is not set"),
    ],
)
def test_a_wrong_connection_is_refused_at_once(
    options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(kind, match=message):
        scorebeat.connect(**options)


def test_a_database_without_a_ledger_is_refused_with_what_to_type(empty_database: str) -> None:
    with pytest.raises(scorebeat.UsageError, match="scorebeat migrate"):
        scorebeat.connect(empty_database)


def test_every_public_name_is_there_and_importing_them_loads_nothing() -> None:
    assert [name for name in scorebeat.__all__ if not callable(getattr(scorebeat, name))] == []
    assert set(scorebeat.__all__) <= set(dir(scorebeat))
    script = "import scorebeat, sys; print(*sorted(name for name in sys.modules if 'scorebeat' in name))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith("scorebeat")] == ["scorebeat"]
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        scorebeat.conect  # type: ignore[attr-defined]  # noqa: B018 -- the look itself; a checker finds it too
