"""docker-compose.yml at work: who gets in, who may change what, where secrets are, and how services are stopped."""

import os
import secrets
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from tests.containers.engine import Composed, address, composed, docker, inspect, require_engine, run
from tests.deploy.compose import SECRETS, read
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

ROWS = 500
MODEL = """
import numpy as np


class Positive:
    inputs = {"a": "float64"}
    outputs = {"positive": "bool"}

    def __init__(self, files, device):
        pass

    def predict(self, rows):
        return {"positive": np.asarray(rows["a"]) > 0}
"""
JOBS = """
[jobs.items]
query = "SELECT id, a FROM items"
key = "id"
model = "positive"
schedule = "every 2 seconds"
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
"""Of a bucket; the models are in a volume here."""
LOAD_MODELS = {"cpu-worker", "api"}
OF_THE_ENGINE = {"/usr", "/usr/sbin", "/usr/sbin/docker-init", "/etc", "/etc/scorebeat", "/srv", "/project"}
"""What it puts into each container: its own first process, and folders for what is mounted."""
OURS = ("flower", "api", "beat", "control", "cpu-worker")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """All services, and a job that beat starts."""
    require_engine()
    with composed(tmp_path_factory.mktemp("compose")) as made:
        (made.folder / "store.env").write_text("".join(f"{name}={value}\n" for name, value in CREDENTIALS.items()))
        made.compose("up", "--no-build", "--detach", "--wait")
        (made.folder / "project/positive.py").write_text(MODEL)
        (made.folder / "project/jobs.toml").write_text(JOBS)
        made.sql(
            f"CREATE TABLE items AS SELECT id::bigint, sin(id)::float8 AS a FROM generate_series(1, {ROWS}) AS id;"
            " ALTER TABLE items ADD PRIMARY KEY (id)"
        )
        made.cli("models", "add", "positive:Positive", "--name", "positive")
        made.cli("apply")
        yield made


def login(system: Composed, user: str, password: str) -> str:
    """The database's URL for somebody on this machine."""
    return f"postgresql://{user}:{password}@{address(system.containers('database')[0])}/scorebeat"


def roles(system: Composed, **variables: str) -> tuple[int, str]:
    """Exit code and output of the service that makes the roles, with other variables."""
    options = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    done = system.attempt("run", "--rm", "--no-deps", "-T", *options, "roles")
    return done.returncode, done.stdout + done.stderr


def processes(system: Composed, service: str) -> list[int]:
    """Ids on this machine of the service's processes, but for the first one, which only passes signals on."""
    (container,) = system.containers(service)
    first = int(inspect(container, "{{.State.Pid}}"))
    return [pid for pid in map(int, docker("top", container, "-o", "pid").split()[1:]) if pid != first]


def health_check(system: Composed, service: str) -> int:
    """The exit code of the service's health check, as the engine runs it."""
    definition = read(dict.fromkeys(SECRETS, "x")).services[service]
    limit = ("timeout", str(definition.health_timeout))
    return run("exec", system.containers(service)[0], *limit, *(definition.health or ())).returncode


def test_beat_starts_a_run_that_scores_every_row(system: Composed) -> None:
    wait_for(lambda: system.sql("SELECT 1 FROM scorebeat.runs WHERE state = 'succeeded'"), every=1)

    found = "SELECT count(*), count(DISTINCT p.id), bool_and(p.positive = (i.a > 0)) FROM items i"
    assert system.sql(f"{found} JOIN predictions.items p USING (id)") == [[str(ROWS), str(ROWS), "t"]]


def test_the_api_serves_those_who_show_the_token_and_nobody_else(system: Composed) -> None:
    port = system.variables["API_PORT"].split("-")[0]

    assert httpx.get(f"http://127.0.0.1:{port}/runs").status_code == 401
    shown = system.request("GET", "/runs")
    assert shown is not None
    assert shown.status_code == 200


def test_flower_shows_the_runs_to_those_who_log_in_and_nobody_else(system: Composed) -> None:
    page = f"http://127.0.0.1:{system.variables['FLOWER_PORT']}/runs"
    name, _, password = system.variables["FLOWER_LOGIN"].partition(":")

    assert httpx.get(page).status_code == 401
    shown = httpx.get(page, auth=(name, password))
    assert shown.status_code == 200
    assert "items" in shown.text
    assert httpx.get(f"{page}/static/runs.js", auth=(name, password)).status_code == 200


def test_check_finds_nothing_wrong(system: Composed) -> None:
    warnings = [line for line in system.cli("check").splitlines() if line.startswith("warning")]

    assert [line for line in warnings if " TLS: " not in line] == [], "in the engine's own network there is no TLS"


def test_the_broker_writes_down_what_it_holds_and_throws_nothing_away(system: Composed) -> None:
    (broker,) = system.containers("broker")
    password = system.variables["BROKER_PASSWORD"]

    def configured(name: str) -> str:
        return docker("exec", "--env", f"REDISCLI_AUTH={password}", broker, "redis-cli", "config", "get", name)

    assert configured("appendonly").split() == ["appendonly", "yes"]
    assert configured("maxmemory-policy").split() == ["maxmemory-policy", "noeviction"]
    assert "appendonlydir" in docker("exec", broker, "ls", "/data")


def test_the_password_of_those_who_run_can_be_changed_at_any_time(system: Composed) -> None:
    for password in (secrets.token_hex(24), system.variables["RUN_PASSWORD"]):
        code, printed = roles(system, RUN_PASSWORD=password)

        assert code == 0, printed
        psycopg2.connect(login(system, "scorebeat_run", password)).close()


def test_roles_opens_the_existing_tables_and_exits_badly_if_it_fails(system: Composed) -> None:
    system.sql("CREATE TABLE restored (); REVOKE ALL ON restored FROM scorebeat_run")

    assert roles(system)[0] == 0
    code, printed = roles(system, PGPASSWORD="guessed")
    assert code != 0
    assert "password authentication failed" in printed
    run_url = login(system, "scorebeat_run", system.variables["RUN_PASSWORD"])
    with psycopg2.connect(run_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM restored")


@pytest.mark.parametrize(
    "refused", ["DROP TABLE scorebeat.runs", "DELETE FROM predictions.items", "UPDATE items SET a = 0"]
)
def test_a_long_running_service_may_not_change_the_ledger_itself(system: Composed, refused: str) -> None:
    run_url = login(system, "scorebeat_run", system.variables["RUN_PASSWORD"])

    with psycopg2.connect(run_url) as connection, connection.cursor() as cursor, pytest.raises(InsufficientPrivilege):
        cursor.execute(refused)


def test_no_service_of_ours_writes_into_its_image_or_the_project(system: Composed) -> None:
    for service in OURS:
        written = {line.split()[1] for line in docker("diff", system.containers(service)[0]).splitlines()}
        assert written <= OF_THE_ENGINE, service
    assert sorted(path.name for path in (system.folder / "project").iterdir()) == ["jobs.toml", "positive.py"]


def test_no_process_title_and_no_log_shows_a_secret(system: Composed) -> None:
    variables = system.variables
    hidden = [*(variables[name] for name in SECRETS), variables["FLOWER_LOGIN"].partition(":")[2]]
    hidden += CREDENTIALS.values()
    titles = [docker("top", system.containers(service)[0]) for service in system.health()]

    shown = [*titles, system.compose("logs", "--no-color")]
    assert not [secret for secret in hidden if any(secret in text for text in shown)]


def test_exactly_the_processes_that_load_models_have_a_buckets_credentials(system: Composed) -> None:
    credentials = {f"{name}={value}".encode() for name, value in CREDENTIALS.items()}

    for service in system.health():
        pids = processes(system, service)
        assert pids
        for pid in pids:
            found = credentials & set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
            assert found == (credentials if service in LOAD_MODELS else set()), service


def test_a_stuck_service_fails_its_health_check_and_a_running_one_passes_it(system: Composed) -> None:
    stuck = [pid for service in OURS for pid in processes(system, service)]
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    try:
        for service in OURS:
            wait_for(partial(health_check, system, service), 240, every=1.0)
    finally:
        for pid in stuck:
            os.kill(pid, signal.SIGCONT)
    for service in OURS:
        wait_for(lambda service=service: health_check(system, service) == 0, 120, every=1.0)  # type: ignore[misc]  # bound now


def test_a_signal_to_stop_ends_each_service_in_its_grace(system: Composed) -> None:
    containers = {service: system.containers(service)[0] for service in system.health()}

    system.compose("stop")

    codes = {service: inspect(one, "{{.State.ExitCode}}") for service, one in containers.items()}
    assert codes == dict.fromkeys(containers, "0")
