"""How both brokers are started, by Compose and in the trial on Kubernetes: their shells at work."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.deploy import servers
from tests.deploy.compose import SECRETS, read
from tests.deploy.manifests import pods, shape
from tests.support.fixtures import free_port, kill_group, wait_for

pytestmark = pytest.mark.wide

COMPOSE = read(dict.fromkeys(SECRETS, "x")).services["broker"]
(TRIAL,) = (pod.containers[0] for pod in pods(shape("overlays/trial")) if pod.owner == "broker")
SHELLS = {
    "BROKER_PASSWORD": list(COMPOSE.definition["command"]),
    "REDIS_PASSWORD": [str(word) for word in TRIAL["command"]],
}
"""By the variable that has the password."""
CHECKS = {"BROKER_PASSWORD": COMPOSE.health or [], "REDIS_PASSWORD": TRIAL["readinessProbe"]["exec"]["command"]}
NAMES = {"BROKER_PASSWORD": COMPOSE.environment, "REDIS_PASSWORD": ["REDIS_PASSWORD"]}
"""The variables of its container, which are all its password."""

each_shell = pytest.mark.parametrize("variable", SHELLS)


@contextmanager
def started(variable: str, password: str, folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [word.replace("dir /data", f"dir {folder}") for word in SHELLS[variable]]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**servers.environment(port, folder), variable: password},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        kill_group(process)


@each_shell
def test_it_wants_the_password_keeps_what_it_has_and_takes_no_huge_message(variable: str, tmp_path: Path) -> None:
    port, password = free_port(), "aZ09._~+=-"
    with started(variable, password, tmp_path, port) as process, redis.Redis(port=port, password=password) as broker:
        wait_for(lambda: _responds(broker))
        found = broker.config_get("appendonly", "save", "maxmemory-policy", "proto-max-bulk-len")

        # no snapshots beside: one that fails would have it refuse every message
        kept = {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
        assert found == kept | {"proto-max-bulk-len": str(1024**2)}
        with pytest.raises(redis.AuthenticationError), redis.Redis(port=port) as stranger:
            stranger.ping()
        with pytest.raises(redis.RedisError):
            broker.lpush("scorebeat:huge", b"x" * (1024**2 + 1))
        assert "(error)" not in (tmp_path / "log").read_text("utf-8")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (tmp_path / "appendonlydir").is_dir()


@each_shell
@pytest.mark.parametrize("password", ["hush hush", 'hu"sh', "hu'sh", "hush\nport 1", "hush#\t", "hüsh"])
def test_a_password_that_would_break_its_settings_stops_it_and_is_not_shown(
    variable: str, password: str, tmp_path: Path
) -> None:
    with started(variable, password, tmp_path, free_port()) as process:
        assert process.wait(20) == 2

    log = (tmp_path / "log").read_text("utf-8")
    assert log == f"{variable}: expected letters, digits and . _ ~ + = - only\n"


@each_shell
def test_the_brokers_check_distinguishes_running_refusing_and_absent(variable: str, tmp_path: Path) -> None:
    port = free_port()

    def check(password: str) -> int:
        environment = servers.environment(port, tmp_path) | dict.fromkeys(NAMES[variable], password)
        return subprocess.run(CHECKS[variable], env=environment, check=False, timeout=20).returncode

    with started(variable, "right", tmp_path, port):
        wait_for(lambda: check("right") == 0)
        assert check("wrong") != 0
    assert check("right") != 0


def test_the_trials_servers_get_only_options_that_their_images_know() -> None:
    database = next(pod.containers[0] for pod in pods(shape("overlays/trial")) if pod.owner == "database")
    known = {*read(dict.fromkeys(SECRETS, "x")).services["database"].environment, "PGDATA"} - {"POSTGRES_INITDB_ARGS"}

    assert {variable["name"] for variable in database["env"]} == known
    assert "command" not in database, "the image's own sets the database up"
    assert {variable["name"] for variable in TRIAL["env"]} == {"REDIS_PASSWORD"}


def _responds(broker: redis.Redis) -> bool:
    try:
        return bool(broker.ping())
    except redis.ConnectionError:
        return False
