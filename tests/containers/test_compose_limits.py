"""docker-compose.yml's bounds on a real engine: memory, health checks under load, ways in and out, two machines."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from tests.containers.engine import (
    PAGE,
    PROCESSES,
    Composed,
    address,
    composed,
    copy_compose_files,
    docker,
    inspect,
    page_commands,
    require_engine,
    run,
)
from tests.deploy.compose import REPOSITORY, SECRETS, read

pytestmark = pytest.mark.wide

ROWS = 1_000
A_BATCH = 400
HUNGRY = """
import numpy as np


class Hungry:
    inputs = {"a": "float64"}
    outputs = {"positive": "bool"}

    def __init__(self, files, device):
        pass

    def predict(self, rows):
        np.ones((rows.num_rows, 131_072))
        return {"positive": np.asarray(rows["a"]) > 0}
"""
"""A model that takes a MB of memory for each row of a call."""
JOBS = f"""
[jobs.hungry]
query = "SELECT id, a FROM items"
key = "id"
model = "hungry"
batch_rows = {A_BATCH}
rescore = "every-run"

[jobs.there]
query = "SELECT id, a FROM items"
key = "id"
model = "hungry"
batch_rows = 20
queue = "there"
"""
LIMITS = {
    "database": "2g", "broker": "512m", "roles": "256m", "migrate": "512m", "beat": "512m", "control": "1536m",
    "cpu-worker": "4g", "remote-worker": "4g", "gpu-worker": "16g", "flower": "1g", "api": "1g", "cli": "2g",
}  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    require_engine()
    with composed(tmp_path_factory.mktemp("compose")) as made:
        made.compose("up", "--no-build", "--detach", "--wait")
        (made.folder / "project/hungry.py").write_text(HUNGRY)
        (made.folder / "project/jobs.toml").write_text(JOBS)
        made.sql(
            "SELECT setseed(0.5); CREATE TABLE items AS SELECT id::bigint, (random() - 0.5)::float8 AS a"
            f" FROM generate_series(1, {ROWS}) AS id; ALTER TABLE items ADD PRIMARY KEY (id)"
        )
        made.cli("models", "add", "hungry:Hungry", "--name", "hungry")
        made.cli("apply")
        yield made


def require_right(system: Composed, job: str) -> None:
    """Each row has exactly one prediction, the right one."""
    found = system.sql(
        f"SELECT count(*), count(DISTINCT p.id), bool_and(p.positive = (i.a > 0)) FROM items i"
        f" JOIN predictions.{job} p USING (id)"
    )
    assert found == [[str(ROWS), str(ROWS), "t"]]


def configure(system: Composed, *lines: str) -> None:
    with (system.folder / ".env").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_each_container_has_a_memory_limit_that_a_variable_changes(system: Composed) -> None:
    shown = json.loads(system.compose("--profile", "*", "config", "--format", "json"))["services"]
    units = {"m": 2**20, "g": 2**30}

    assert {name: int(one["mem_limit"]) for name, one in shown.items()} == {
        name: int(limit[:-1]) * units[limit[-1]] for name, limit in LIMITS.items()
    }
    for service in system.health():
        assert inspect(system.containers(service)[0], "{{.HostConfig.Memory}}") == str(shown[service]["mem_limit"])


def test_health_checks_end_in_time_in_containers_with_a_tenth_of_a_core(system: Composed) -> None:
    file = read(dict.fromkeys(SECRETS, "x"))
    containers = {name: system.containers(name)[0] for name in system.health()}
    took = {}
    try:
        for one in containers.values():
            docker("update", "--cpus", "0.1", one)
        for name, one in containers.items():
            began = time.monotonic()
            done = run("exec", one, *(file.services[name].health or ()))
            took[name] = time.monotonic() - began
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    finally:
        cores = docker("info", "--format", "{{.NCPU}}")
        for one in containers.values():
            docker("update", "--cpus", cores, one)

    assert {name: spent for name, spent in took.items() if spent > file.services[name].health_timeout / 2} == {}


def test_a_command_and_more_workers_start_neither_migrate_nor_a_worker_anew(system: Composed) -> None:
    def begun(service: str) -> list[str]:
        listed = system.compose("ps", "--all", "--quiet", service).split()
        return [inspect(one, "{{.State.StartedAt}}") for one in listed]

    before = {name: begun(name) for name in ("migrate", "roles", "cpu-worker")}

    system.compose("run", "--rm", "-T", "cli", "jobs")
    system.compose(*documented("--scale cpu-worker=3")[2:])

    assert {name: begun(name) for name in ("migrate", "roles")} == {name: before[name] for name in ("migrate", "roles")}
    workers = begun("cpu-worker")
    assert len(workers) == 3
    assert set(before["cpu-worker"]) < set(workers), "the first one goes on"
    system.compose(
        "up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--scale", "cpu-worker=1", "cpu-worker"
    )


def documented(part: str) -> list[str]:
    """The words of the page's command with this part."""
    (command,) = (command for command in page_commands(part) if part in command)
    return command.split()


def test_a_worker_beyond_its_memory_limit_is_killed_and_a_person_sees_why(system: Composed) -> None:
    configure(system, "WORKER_MEMORY=400m")
    system.compose("up", "--detach", "--wait", "--no-deps", "--no-build", "cpu-worker")

    ended = system.cli("enqueue", "hungry", "--wait")

    assert "succeeded" in ended
    require_right(system, "hungry")
    assert system.sql("SELECT bool_or(attempt > 1) FROM scorebeat.batches WHERE state = 'committed'") == [["t"]]
    log = system.compose("logs", "--no-color", "cpu-worker")
    assert "process.died" in log
    assert "this container met its memory limit of 400 MiB and the kernel killed the process" in log
    assert "attempts whose process or worker died" in system.cli("show", "1")


def test_the_machine_needs_a_password_and_containers_have_no_way_out(system: Composed) -> None:
    database, broker = (address(system.containers(name)[0]) for name in ("database", "broker"))

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host=database, user="scorebeat_run", password="guessed", dbname="scorebeat")
    with redis.Redis(host=broker) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    for service in ("database", "broker", "cpu-worker", "beat"):
        routes = run("exec", system.containers(service)[0], "cat", "/proc/net/route").stdout.splitlines()[1:]
        assert routes
        assert not [line for line in routes if line.split()[1] == "00000000"], f"{service} has a default route"


def test_a_second_machine_runs_workers_alone_against_the_servers_of_the_first(system: Composed, tmp_path: Path) -> None:
    """The second machine is another project: its networks reach the first one's only by the published ports."""
    bridge = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    files = "COMPOSE_FILE=docker-compose.yml:deploy/compose.servers.yml:docker-compose.override.yml"
    assert f"`{files}`" in (REPOSITORY / "docs/how-to/docker-compose.md").read_text("utf-8")
    configure(system, files, f"SERVERS_ADDRESS={bridge}",
              "DATABASE_PORT=25432", "BROKER_PORT=26379")  # fmt: skip
    system.compose("up", "--detach", "--wait", "--no-build")
    worker = system.containers("cpu-worker")[0]
    assert int(inspect(worker, "{{.HostConfig.NanoCpus}}")) == PROCESSES * 10**9, "the override is read, too"
    (shown,) = (block for block in PAGE.blocks if block.file == ".env" and "RUN_URL" in block.text)
    filled = shown.text.replace("RUN_PASSWORD_OF_THE_FIRST", system.variables["RUN_PASSWORD"])
    filled = filled.replace("BROKER_PASSWORD_OF_THE_FIRST", system.variables["BROKER_PASSWORD"])
    filled = filled.replace("10.0.0.5:5432", f"{bridge}:25432").replace("10.0.0.5:6379", f"{bridge}:26379")
    copy_compose_files(tmp_path, system.image)
    (tmp_path / ".env").write_text(filled)
    (tmp_path / "docker-compose.override.yml").write_text(
        'services: {remote-worker: {command: ["worker", "--device", "cpu", "--queue", "there"]}}\n'
    )
    (tmp_path / "certificates").mkdir()
    second = Composed(tmp_path, f"{system.name}-second")
    try:
        models = run("exec", system.containers("api")[0], "sh", "-c", "tar -C /srv/scorebeat/models -cf - . | base64")
        second.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "cli", "-c",
                       "base64 -d | tar -C /srv/scorebeat/models -xf -", stdin=models.stdout)  # fmt: skip

        second.compose("up", "--no-build", *documented("--wait remote-worker")[3:])

        assert set(second.health()) == {"remote-worker"}, "nothing else runs there"
        assert "succeeded" in system.cli("enqueue", "there", "--wait")
        require_right(system, "there")
        there = second.containers("remote-worker")[0][:12]
        assert system.sql("SELECT DISTINCT split_part(split_part(claimed_by, '@', 2), '/', 1) FROM scorebeat.batches b"
                          " JOIN scorebeat.runs r ON r.id = b.run_id WHERE r.job = 'there'") == [[there]]  # fmt: skip
    finally:
        second.compose("--profile", "*", "down", "--volumes", "--timeout", "10", check=False)
        shutil.rmtree(tmp_path, ignore_errors=True)
