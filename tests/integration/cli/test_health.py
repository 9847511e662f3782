"""`scorebeat health`: a process that sent a sign of life lately, from this machine and folder, is alive."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.processes import signs_of_life, workers
from tests.support.cli_fixtures import Cli
from tests.support.fixtures import environment, typed, wait_for

pytestmark = pytest.mark.wide(slow=3, quick=6)

HERE = socket.gethostname()


def seen(engine: Engine, queues: list[str], host: str = HERE, seconds_ago: int = 0) -> None:
    """A worker on these queues whose last sign of life is so old."""
    name = f"{queues[0]}-7@{host}/7"
    with engine.begin() as connection:
        workers.seen(connection, name, queues, "cpu", 1)
        connection.execute(
            text("UPDATE scorebeat.workers SET seen_at = now() - make_interval(secs => :ago) WHERE name = :name"),
            {"ago": seconds_ago, "name": name},
        )


@pytest.mark.parametrize(("queues", "process"), [(["cpu"], "worker"), (["nightly", "gpu"], "worker")])
def test_a_worker_that_was_just_seen_is_alive(scorebeat: Cli, engine: Engine, queues: list[str], process: str) -> None:
    seen(engine, queues)

    assert scorebeat("health", process).exit_code == 0


@pytest.mark.parametrize("sign", [{"seconds_ago": 60}, {"host": "elsewhere"}])
def test_an_old_sign_and_one_from_another_machine_do_not_count(
    scorebeat: Cli, engine: Engine, sign: dict[str, int]
) -> None:
    seen(engine, ["cpu"], **sign)  # type: ignore[arg-type]  # one of the two
    result = scorebeat("health", "worker")

    assert result.exit_code == 1
    assert f"a worker that scores on {HERE} gave no sign of life within 20 s" in result.stderr


def test_control_is_alive_when_both_of_its_workers_are(scorebeat: Cli, engine: Engine) -> None:
    seen(engine, ["control"])
    half = scorebeat("health", "control")
    seen(engine, ["plan"])
    whole = scorebeat("health", "control")

    assert (half.exit_code, whole.exit_code) == (1, 0)
    assert f"the worker of queue plan on {HERE}" in half.stderr
    assert scorebeat("health", "worker").exit_code == 1


def test_beat_is_alive_while_it_reads(scorebeat: Cli, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scorebeat("health", "beat").exit_code == 1
    beat = make_engine(database, signs_of_life.BEAT, pool_size=1)
    with beat.connect() as connection:
        connection.execute(text("SELECT 1"))
        assert scorebeat("health", "beat").exit_code == 0
        monkeypatch.setattr("scorebeat.db.processes.health.SEEN_WITHIN", signs_of_life.SEEN_WITHIN / 100)
        wait_for(lambda: scorebeat("health", "beat").exit_code == 1)
    beat.dispose()


def test_an_unavailable_database_is_reported_without_its_password(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREBEAT_DATABASE_URL", "postgresql://ann:hidden@127.0.0.1:1/shop")
    result = scorebeat("health", "worker")

    assert result.exit_code == 2
    assert "hidden" not in result.output


@pytest.mark.parametrize("where", ["environment", ".env"])
@pytest.mark.parametrize(("process", "queues"), [("worker", ["cpu"]), ("control", ["control", "plan"])])
def test_a_healthy_check_imports_no_sqlalchemy_or_celery_and_a_failed_one_has_why(
    settings: Settings, engine: Engine, tmp_path: Path, where: str, process: str, queues: list[str]
) -> None:
    variables = environment(settings)
    if where == ".env":
        url = variables.pop("SCOREBEAT_DATABASE_URL")
        _, _, rest = url.partition("://")
        variables["REST"] = rest
        (tmp_path / ".env").write_text("# ours\nexport SCOREBEAT_DATABASE_URL='postgresql://${REST}' # here\n")
    program = (
        f"import sys; sys.argv = ['scorebeat', 'health', '{process}']\n"
        "from scorebeat.ops.cli import main; main()\n"
        "print(*sorted({'sqlalchemy', 'celery', 'pydantic', 'click'} & set(sys.modules)))"
    )

    def check() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)

    silent = check()
    seen(engine, queues)
    heard = check()

    assert (silent.returncode, "gave no sign of life within 20 s" in silent.stderr) == (1, True)
    assert (heard.returncode, heard.stdout) == (0, f"{process} is alive\n\n")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_a_server_that_accepts_and_is_silent_is_waited_for_5_seconds_once(settings: Settings, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://ann:hidden@127.0.0.1:{silent.getsockname()[1]}/shop"
        result = typed(settings, "health", "worker", SCOREBEAT_DATABASE_URL=url)
        silent.setblocking(False)
        silent.accept()
        with pytest.raises(BlockingIOError):
            silent.accept()

    assert result.returncode == 2
    assert result.stderr.startswith(f"error: PostgreSQL at {scheme}://ann:***@127.0.0.1:")
    assert "gave no answer within 5 s" in result.stderr
