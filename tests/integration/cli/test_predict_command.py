"""`scorebeat predict` and the Python call: the model of the batches, called with single rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.errors import ModelError, SignatureError, UnknownName
from scorebeat.core.settings import Settings
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model
from scorebeat.models.formats import registry
from scorebeat.models.formats.sklearn.models import SklearnModel
from scorebeat.online.predictor import MODELS_KEPT, Predictor
from scorebeat.ops.cli.app import cli
from scorebeat.producer.context import Producer
from scorebeat.producer.versions import publish
from tests.docs.pages import REPOSITORY, Page
from tests.docs.shell import Reader, reader
from tests.support.cli_fixtures import Cli, ledger, refused, score_all, write_adder

pytestmark = pytest.mark.wide

QUICKSTART = Page.read(REPOSITORY / "docs/tutorial/quickstart.md")


def predictions(scorebeat: Cli, model: str, rows: Any) -> Any:
    result = scorebeat("predict", model, "--json", json.dumps(rows))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_rows_online_are_scored_as_in_a_batch(scorebeat: Cli, job: str, producer: Producer, engine: Engine) -> None:
    scorebeat("enqueue", job)
    score_all(producer, 1)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, a, b, total FROM pairs JOIN predictions.sums USING (id)")).all()
    before = ledger(engine)

    found = predictions(scorebeat, "adder", [{"b": row.b, "a": row.a} for row in rows])

    assert len(rows) == 100
    assert found == [{"total": row.total} for row in rows]
    assert ledger(engine) == before


def test_one_object_no_rows_and_standard_input_are_taken(scorebeat: Cli, job: str) -> None:
    del job
    assert predictions(scorebeat, "adder", []) == []
    assert len(predictions(scorebeat, "adder", {"a": 1, "b": 2})) == 1
    piped = CliRunner().invoke(cli, ["predict", "adder/1", "--json", "-"], input='[{"values": [1, 2]}]')
    assert json.loads(piped.stdout) == predictions(scorebeat, "adder", {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[{", "--json is not JSON: Expecting property name"),
        ("", "--json is not JSON: Expecting value"),
        ('[{"a": NaN, "b": 1}]', "--json is not JSON: NaN is no JSON value"),
        ("[" * 200_000, "--json is not JSON"),
        ("3", "--json: expected a list of objects"),
        ('{"a": 1, "b": 2, "a": 3}', "--json: a: the key stands twice in one object"),
        ('[{"a": 1, "b": 2}, {"a": 1, "b": 2, "b": 2}]', "--json: 1.b: the key stands twice in one object"),
        ("[3]", "row 0 is 3, expected an object with a float64, b float64"),
        ('[{"a": 1}]', "row 0: b is missing"),
        ('[{"a": 1, "b": 2}, {"a": 1, "b": 2, "id": 3}]', "row 1: 'id' is no input of the model"),
        ('[{"a": 1, "b": "2"}]', "row 0: b is '2', expected a number"),
    ],
)
def test_rows_that_do_not_fit_end_with_2_and_the_position(scorebeat: Cli, job: str, rows: str, message: str) -> None:
    del job

    refused(scorebeat("predict", "adder", "--json", rows), message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ader", "there is no model 'ader'. Did you mean 'adder'?"),
        ("adder/2", "there is no model adder/2."),
        ("adder/x", "'adder/x' is neither a model nor a version of one"),
        ("adder/1/1", "is neither a model nor a version of one"),
    ],
)
def test_a_model_that_is_not_there_is_named(scorebeat: Cli, job: str, model: str, message: str) -> None:
    del job

    refused(scorebeat("predict", model, "--json", "[]"), message)


@pytest.mark.usefixtures("job")
def test_bytes_that_are_no_text_end_with_2() -> None:
    result = CliRunner().invoke(cli, ["predict", "adder", "--json", "-"], input=b"\xff\xfe")

    refused(result, "--json is not JSON: 'utf-8' codec")


@pytest.mark.usefixtures("job")
def test_a_null_that_the_model_cannot_take_ends_with_2_and_its_row_and_column(scorebeat: Cli) -> None:
    rows = '[{"a": 1, "b": 2}, {"a": null, "b": 2}]'

    error = refused(scorebeat("predict", "adder", "--json", rows), "row 1: the model raised ValueError: Input X")
    assert "; a is null, which the model does not take" in error


@pytest.mark.usefixtures("job")
def test_a_model_that_raises_ends_with_1_and_one_line_that_names_the_row(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_self: Any, rows: Any) -> None:
        if 7.0 in rows["a"].to_pylist():
            raise KeyError("zz")

    monkeypatch.setattr(SklearnModel, "predict", fails)

    result = scorebeat("predict", "adder", "--json", '[{"a": 7, "b": 2}]')

    assert result.exit_code == 1
    assert result.stderr == "error: row 0: the model raised KeyError: 'zz'. Nothing was scored\n"


def test_publish_is_seen_at_the_next_call_and_each_version_is_loaded_once(
    producer: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = registry.load

    def counted(artifact: Artifact) -> Model:
        loads.append(str(artifact))
        return load(artifact)

    monkeypatch.setattr(registry, "load", counted)
    for slope in (1.0, 2.0):
        path = write_adder(tmp_path / "adder.skops", "a", "b", slope=slope)
        publish.add(producer, path, "adder", "test", AddOptions(outputs=("total",)))
    loads.clear()
    predictor = Predictor(producer)
    row = [{"a": 1, "b": 2}]

    first = [predictor.predict("adder", row)[0]["total"] for _ in range(2)]
    publish.publish(producer, "adder", 2, "test")
    second = [predictor.predict(model, row)[0]["total"] for model in ("adder", "adder/1", "adder/2")]

    assert np.allclose([*first, *second], [3, 3, 6, 3, 6])
    assert loads == ["adder/1", "adder/2"]


def test_only_the_last_few_models_are_kept(producer: Producer, adder: Path) -> None:
    names = [f"m{n}" for n in range(MODELS_KEPT + 2)]
    predictor = Predictor(producer)
    for name in names:
        publish.add(producer, adder, name, "test")
        predictor.predict(name, [{"a": 1, "b": 2}])

    assert [name for name, _ in predictor._models] == names[-MODELS_KEPT:]


def test_a_file_that_was_altered_predicts_nothing(producer: Producer, adder: Path) -> None:
    publish.add(producer, adder, "adder", "test")
    (Path(producer.settings.artifacts) / "adder/1/model.skops").write_bytes(b"altered")

    with pytest.raises(ModelError, match="was altered or damaged"):
        Predictor(producer).predict("adder", [])


def test_the_call_from_python_raises_the_error_of_the_command(producer: Producer, adder: Path) -> None:
    publish.add(producer, adder, "adder", "test")

    with pytest.raises(UnknownName):
        Predictor(producer).predict("nosuch", [])
    with pytest.raises(SignatureError, match="row 0: b is missing"):
        Predictor(producer).predict("adder", [{"a": 1}])


@pytest.fixture
def at_a_terminal(tmp_path: Path, stack: StackUrls, database: str, settings: Settings) -> Any:
    """A reader in a new folder, whose settings lead to a migrated database."""
    del settings
    with reader(tmp_path / "reader") as one:
        lines = (f"SCOREBEAT_DATABASE_URL={database}", f"SCOREBEAT_BROKER_URL={stack.broker_url}")
        (one.folder / ".env").write_text("\n".join(lines))
        yield one


def test_the_page_on_python_classes_does_what_it_promises(at_a_terminal: Reader) -> None:
    at_a_terminal.follow(Page.read(REPOSITORY / "docs/how-to/bring-python-class.md"))


def test_the_page_on_predictions_online_does_what_it_promises(at_a_terminal: Reader) -> None:
    at_a_terminal.save(QUICKSTART, "train.py")
    added = "python train.py && scorebeat models add churn.skops --name churn --inputs visits,days_away,spent"
    assert at_a_terminal.shell(added).returncode == 0

    at_a_terminal.follow(Page.read(REPOSITORY / "docs/how-to/predict-online.md"))
