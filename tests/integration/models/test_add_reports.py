"""`models add` and `predict` report what happened, whatever the class's code takes away from them."""

from pathlib import Path

import pytest
from sqlalchemy import text

from scorebeat.producer.context import Producer
from tests.support.fixtures import Programs

pytestmark = pytest.mark.wide

CLASS = """
import os, shutil, signal, sys, threading, time

{imports}

class C:
    inputs = {{"x": "float64"}}
    outputs = {{"y": "float64"}}

    def __init__(self, files, device):
        {init}

    def predict(self, rows):
        {predict}
        return {{"y": rows["x"]}}
"""
CLOSES = "code closed descriptors that it did not open"
TAKEN: dict[str, tuple[str, str, str]] = {
    "its descriptors when it is imported": ("imports", "os.closerange(0, 100)", CLOSES),
    "its descriptors when it is made": ("init", "os.closerange(0, 100)", CLOSES),
    "its descriptors when it predicts": ("predict", "os.closerange(0, 100)", CLOSES),
    "all descriptors there may be": ("init", "os.closerange(0, 1_000_000)", CLOSES),
    "its descriptors, and raises": ("init", "os.closerange(0, 100); 1 / 0", "division by zero"),
    "the process": ("imports", "os._exit(0)", "its code ended the process with exit code 0"),
    "the process, as if it failed": ("predict", "os._exit(2)", "its code ended the process with exit code 2"),
    "the process by a signal": (
        "init",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "the process was ended by SIGKILL while",
    ),
    "the process for another program": ("init", "os.execv('/bin/true', ['true'])", "its code ended the process"),
    "the folder that it is tried in": ("init", "shutil.rmtree(files.parent)", "its code deleted its own files"),
}
KEPT: dict[str, tuple[str, str]] = {
    "standard output and error": ("init", "os.close(1); os.close(2)"),
    "the streams of Python": ("imports", "sys.stdout.close(); sys.stderr = None"),
    "the folder": ("predict", "os.makedirs('/tmp/gone', exist_ok=True); os.chdir('/tmp/gone'); os.rmdir('/tmp/gone')"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_adding_reports_what_a_class_changed_around_it_and_adds_nothing(
    producer: Producer, programs: Programs, tmp_path: Path, case: str
) -> None:
    where, code, words = TAKEN[case]
    (tmp_path / "own.py").write_text(_class(where, code))

    added = programs.start("scorebeat.ops.cli", "models", "add", "own:C", "--name", "own", PYTHONPATH=str(tmp_path))

    assert added.wait(60) in (1, 2)
    assert "error: own:C was not added" in programs.log(added)
    assert words in programs.log(added)
    assert [*Path(producer.settings.artifacts).glob(".adding-*")] == []
    assert _versions(producer) == 0


@pytest.mark.parametrize("case", KEPT)
def test_adding_goes_on_and_speaks_where_a_class_took_what_can_be_put_back(
    producer: Producer, programs: Programs, tmp_path: Path, case: str
) -> None:
    (tmp_path / "own.py").write_text(_class(*KEPT[case]))

    added = programs.start("scorebeat.ops.cli", "models", "add", "own:C", "--name", "own", PYTHONPATH=str(tmp_path))

    assert added.wait(60) == 0
    assert "model own/1 added and published" in programs.log(added)
    assert _versions(producer) == 1


@pytest.mark.usefixtures("producer")
def test_predicting_reports_that_a_class_ended_it(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(_class("predict", "os.environ.get('ENDS') and os._exit(0)"))
    command = ("scorebeat.ops.cli", "models", "add", "own:C", "--name", "own")
    assert programs.start(*command, PYTHONPATH=str(tmp_path)).wait(60) == 0

    predicting = programs.start("scorebeat.ops.cli", "predict", "own", "--json", '[{"x": 1.0}]', ENDS="yes")

    assert predicting.wait(60) == 1
    assert "error: model own scored nothing: its code ended the process with exit code 0" in programs.log(predicting)


def _class(where: str, code: str) -> str:
    return CLASS.format(**{"imports": "", "init": "pass", "predict": "pass", where: code})


def _versions(producer: Producer) -> int:
    with producer.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM scorebeat.model_versions")).scalar_one())
