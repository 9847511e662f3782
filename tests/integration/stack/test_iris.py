"""The example, set up and scored as its README describes, by programs as a user starts them."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from scorebeat.core.data_folder import running_stack
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import model_versions, runs
from scorebeat.examples.complaints import setup as complaints
from scorebeat.examples.iris import data, items, setup, train
from scorebeat.producer.context import Producer
from tests.support.cli_fixtures import Cli, refused, score_all
from tests.support.fixtures import environment, wait_for
from tests.support.fork_server import FORKS

pytestmark = pytest.mark.wide

EXAMPLE = Path(setup.__file__).parent
COUNT = 500


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who set nothing, in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCOREBEAT_")}
    return kept | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}


def test_setting_up_twice_doubles_neither_rows_nor_models(producer: Producer, engine: Engine) -> None:
    added = [(setup.fill(producer, COUNT), setup.add_model(producer, "test")) for _ in range(2)]

    assert added == [(COUNT, True), (0, False)]
    with engine.connect() as connection:
        assert [str(v) for v in model_versions.listing(connection)] == ["iris/1"]
        stored = [row.values for row in connection.execute(items.items.select().order_by(items.items.c.id))]
    assert stored == data.rows(COUNT).tolist()


@pytest.mark.parametrize("example", [setup, complaints])
def test_the_next_command_that_an_example_names_works_from_every_folder(
    scorebeat: Cli, example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for slow in ("fill", "add_model"):
        monkeypatch.setattr(example, slow, lambda *_: 0)
    assert example.main(*([COUNT] if example is complaints else [])) == 0

    hint = capsys.readouterr().out.splitlines()[-1].removeprefix("next: scorebeat ").partition(", then")[0]

    assert shlex.split(hint)[:2] == ["apply", "--file"]
    refused(scorebeat(*shlex.split(hint)), "relation", "does not exist")  # the file was found; the tables were not made


def test_items_are_read_with_and_without_their_prediction(scorebeat: Cli, producer: Producer, engine: Engine) -> None:
    setup.fill(producer, COUNT)
    setup.add_model(producer, "test")
    assert scorebeat("apply", "--file", str(EXAMPLE / "jobs.toml")).exit_code == 0
    scorebeat("enqueue", "iris", "--limit", "200")
    score_all(producer, 1)

    with engine.begin() as connection:
        (new,) = items.register(connection, [[5.1, 3.5, 1.4, 0.2]])
        scored = connection.execute(items.with_prediction(COUNT)).all()
        waiting = connection.execute(items.without_prediction(1000)).all()
        one = items.by_id(connection, 1)
        assert items.by_id(connection, 100_000) is None

    model, _ = train.train()
    assert [row.id for row in scored] == list(range(1, 201))
    assert [row.id for row in waiting] == [*range(201, COUNT + 1), new]
    expected = model.predict_proba(pd.DataFrame([row.values for row in scored], columns=data.FEATURES))
    assert np.allclose([[row.setosa, row.versicolor, row.virginica] for row in scored], expected, atol=1e-9)
    assert one is not None
    assert one.label == "setosa" or max(one.versicolor, one.virginica) > one.setosa


def test_the_demo_scores_every_row_and_ends_by_itself_again_and_again(tmp_path: Path, alone: dict[str, str]) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "scorebeat.ops.cli", "demo"],
            cwd=tmp_path,
            env=alone,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        assert "run 1 succeeded\n65,322 rows scored" in done.stdout
        assert "begun by beat" in done.stdout
        classes = re.findall(r"^(?:setosa|versicolor|virginica)\s+([\d,]+)", done.stdout, re.MULTILINE)
        assert sum(int(count.replace(",", "")) for count in classes) == data.COUNT
    after = subprocess.run(
        [sys.executable, "-m", "scorebeat.ops.cli", "runs"],
        cwd=tmp_path,
        env=alone | {"SCOREBEAT_DATA": ".scorebeat/demo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert after.stdout.count("65,322") == 2
    assert after.returncode == 0


@pytest.fixture
def up(tmp_path: Path, alone: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`scorebeat up` in the test's folder; its log is shown when the test fails."""
    log = tmp_path / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scorebeat.ops.cli", "up"], cwd=tmp_path, env=alone, stdout=output, stderr=output
        )
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(60)
    sys.stdout.write(log.read_text("utf-8", "replace")[-10_000:])


def test_the_readme_of_the_example_works_beside_up(
    tmp_path: Path, alone: dict[str, str], up: subprocess.Popen[bytes]
) -> None:
    wait_for(lambda: running_stack(tmp_path / ".scorebeat"), within=60)
    wait_for(lambda: "starting flower" in (tmp_path / "up.log").read_text(), within=60)

    def command(*words: str, code: int = 0) -> str:
        program = [str(FORKS.commands() / words[0]), *words[1:]]
        done = subprocess.run(program, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "65,322 rows added" in command("python", "-m", "scorebeat.examples.iris.setup")
    assert command("scorebeat", "apply", "--file", str(EXAMPLE / "jobs.toml")) == "added job iris\n"
    assert "65,322 rows scored" in command("scorebeat", "enqueue", "iris", "--wait")
    assert "problem" not in command("scorebeat", "check")
    second = command("scorebeat", "up", code=2)
    assert f"process {up.pid} runs the embedded servers there" in second
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    assert running_stack(tmp_path / ".scorebeat") is None


def test_ctrl_c_ends_a_watch_without_a_trace_and_the_run_goes_on(
    settings: Settings, producer: Producer, scorebeat: Cli
) -> None:
    setup.fill(producer, COUNT)
    setup.add_model(producer, "test")
    scorebeat("apply", "--file", str(EXAMPLE / "jobs.toml"))
    watching = subprocess.Popen(
        [str(FORKS.commands() / "scorebeat"), "enqueue", "iris", "--wait"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert "run 1 of job iris is enqueued" in watching.stdout.readline()
    assert "run 1 iris planning" in watching.stdout.readline()

    watching.send_signal(signal.SIGINT)
    _, output = watching.communicate(timeout=20)

    assert watching.returncode == 130
    assert "run 1 goes on" in output
    assert "Traceback" not in output
    engine = make_engine(str(settings.database_url))
    with engine.connect() as connection:
        assert runs.get(connection, 1).state == "planning"
    engine.dispose()


def test_a_reader_that_leaves_ends_a_command_without_a_trace(settings: Settings) -> None:
    command = f"{sys.executable} -m scorebeat.ops.cli --help; echo $? >&2"
    done = subprocess.run(
        ["/bin/bash", "-c", f"({command}) | true"],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.strip() in ("141", "0")
