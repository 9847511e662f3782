"""A refusal of the system, or a file cut short, ends a command with one message and never with a stack trace."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from scorebeat.core.settings import Settings
from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches
from scorebeat.db.ledger.batches import BatchId
from scorebeat.ops.cli.commands.installation.demo import look_at
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from tests.support.cli_fixtures import Cli, refused
from tests.support.fixtures import REPOSITORY
from tests.support.system import own_system


def test_each_command_that_needs_an_unreadable_store_reports_it(
    scorebeat: Cli, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_ARTIFACTS", "x" * 300)  # refused to everybody, root too

    checked = scorebeat("check")
    results = [scorebeat("predict", "adder", "--json", '{"a": 1, "b": 2}'), scorebeat("publish", "adder/1"), checked]

    assert [one.exit_code for one in results] == [1, 2, 2]
    assert all("cannot be read: File name too long" in one.output for one in results)
    assert "queue cpu" in checked.output  # what comes after it
    assert job in checked.output


@pytest.mark.slow
def test_a_worker_reports_an_unreadable_store_with_a_next_step_and_no_traceback(tmp_path: Path) -> None:
    with own_system(tmp_path / "system") as system:
        job = system.job("closed")
        system.programs.control()
        worker = system.programs.worker("cpu", SCOREBEAT_ARTIFACTS="x" * 300)

        assert system.until_finished(system.enqueue(job)) is RunState.FAILED

        errors = system.query("SELECT DISTINCT error FROM scorebeat.batches")
        log = system.programs.log(worker)
    assert ["SCOREBEAT_ARTIFACTS" in error for (error,) in errors] == [True]
    assert "batch.failed" in log
    assert "Traceback" not in log


def test_show_prints_the_last_error_of_batches_that_are_retried(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    scorebeat("enqueue", job)
    plan(producer, 1)
    before = scorebeat("show", "1").output
    with engine.begin() as connection:
        held = batches.claim(connection, BatchId(1), "test", timedelta(minutes=1), "cpu", 1)
        assert held is not None
        batches.fail(connection, held, "OSError: the disk\x1b[31m is away", timedelta(minutes=1))

    shown = scorebeat("show", "1").output

    assert "the last error" not in before
    assert "1 batch, to be tried again; the last error, of batch 1, attempt 1:\n  OSError: the disk" in shown
    assert "\x1b" not in shown


def test_a_demo_that_cannot_write_names_the_folder_and_the_next_step(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCOREBEAT_DATA", "file/data")  # refused to everybody, root too

    refused(scorebeat("demo"), "file/data: cannot be the folder", "Not a directory", "set SCOREBEAT_DATA to a folder")


def test_the_demos_last_words_reach_the_demo_though_urls_of_ones_own_are_set(tmp_path: Path) -> None:
    alone = Settings(_env_file=None)
    own = Settings(_env_file=None, database_url="postgresql://db/app", broker_url="redis://cache")

    assert "DATABASE_URL" not in "".join(look_at(tmp_path / "de mo", alone, "runs"))
    assert "sets SCOREBEAT_DATABASE_URL and SCOREBEAT_BROKER_URL" in look_at(tmp_path, own, "runs")[0]
    assert look_at(tmp_path / "de mo", own, "runs")[2].startswith(f"  SCOREBEAT_DATA='{tmp_path}/de mo' ")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://ann:s3cr3t@127.0.0.1:1/0"])
def test_a_broker_that_is_away_is_named_as_its_url_is_without_the_password(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SCOREBEAT_BROKER_URL", url)

    assert f"the broker at {url.replace('s3cr3t', '***')} cannot be used" in scorebeat("check").output


@pytest.mark.parametrize("arguments", [["runs", "--job", "caf\udce9"], ["enqueue", "caf\udce9"], ["caf\udce9"]])
def test_an_argument_that_is_not_utf_8_is_refused(scorebeat: Cli, arguments: list[str]) -> None:
    refused(scorebeat(*arguments), r"the argument 'caf\xe9' is not UTF-8")


def test_ctrl_c_while_the_command_line_is_loading_ends_it_without_a_trace() -> None:
    script = (
        "import sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'scorebeat.ops.cli.app':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "from scorebeat.ops.cli import main\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "interrupted\n")
