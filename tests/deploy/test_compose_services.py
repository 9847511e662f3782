"""How each service of docker-compose.yml is stopped, watched and trusted, and what it leaves behind."""

import re

import pytest

from tests.deploy.compose import REPOSITORY, SECRETS, File, read, seconds
from tests.deploy.patience import COMMAND_SECONDS
from tests.docs.pages import Page

ENVIRONMENT = dict.fromkeys(SECRETS, "secret")
PAGE = REPOSITORY / "docs/how-to/docker-compose.md"
STORE = "store.env"
MODELS = "/srv/scorebeat/models"


@pytest.fixture
def file() -> File:
    return read(ENVIRONMENT)


def test_each_container_has_a_first_process_that_passes_signals_on(file: File) -> None:
    assert [one.name for one in file.services.values() if one.definition.get("init") is not True] == []


def test_a_service_that_is_stuck_is_seen_within_minutes(file: File) -> None:
    for service in file.long_running:
        check = service.definition["healthcheck"]
        assert 1 <= seconds(check["interval"]) <= 60, service.name
        assert seconds(check["timeout"]) >= (COMMAND_SECONDS if service.target else 2), service.name
        assert 2 <= check["retries"] <= 12, service.name
        assert 20 <= seconds(check["start_period"]) <= 120, service.name
    assert (file.services["database"].health or [])[1:3] == ["-h", "127.0.0.1"], "its socket opens too early"


def test_servers_have_the_time_to_write_down_what_they_hold(file: File) -> None:
    assert [one.name for one in file.long_running if one.grace < 10] == []
    assert [name for name in ("database", "broker") if file.services[name].grace < 30] == []


def test_the_database_has_connections_and_memory_for_many_processes(file: File) -> None:
    definition = file.services["database"].definition
    (connections,) = (word for word in definition["command"] if word.startswith("max_connections="))

    assert int(connections.partition("=")[2]) > 100, "PostgreSQL's own, and a worker takes two a core"
    assert definition["shm_size"] == "256m"


def test_the_databases_indexes_outlive_an_update_of_the_image(file: File) -> None:
    """They would not by a locale of the C library, which orders texts anew from time to time."""
    options = file.services["database"].environment["POSTGRES_INITDB_ARGS"].split()

    assert {"--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"} < set(options)


def test_no_container_can_take_the_whole_machines_memory(file: File) -> None:
    sizes = {one.name: one.definition.get("mem_limit", "") for one in file.services.values()}
    page = PAGE.read_text("utf-8").split("\n## Memory\n")[1].split("\n## ")[0]

    assert [name for name, size in sizes.items() if not re.fullmatch(r"\d+[mg]", size)] == []
    for name, size in sizes.items():
        if name not in ("roles", "migrate"):
            number, unit = (size[:-1], "MiB") if size[-1] == "m" else (size[:-1], "GiB")
            shown = "1.5 GiB" if size == "1536m" else f"{number} {unit}"
            variable = "WORKER_MEMORY" if name in ("cpu-worker", "remote-worker") else f"{name.upper()}_MEMORY"
            assert re.search(f"`{name}`.* \\| {shown} \\| .*`{variable.replace('-', '_')}` \\|", page), name


def test_logs_do_not_fill_the_disk(file: File) -> None:
    assert [one.name for one in file.services.values() if one.definition["logging"] != {"driver": "local"}] == []


def test_only_who_uses_a_secret_has_it_and_by_the_name_that_is_looked_for(file: File) -> None:
    holders = {
        name: {one.name for one in file.services.values() if name in one.environment}
        for name in ("SCOREBEAT_NOTIFY_SECRET", "SCOREBEAT_API_TOKEN", "FLOWER_BASIC_AUTH")
    }

    assert list(holders.values()) == [{"control"}, {"api"}, {"flower"}]


def test_each_service_is_checked_by_itself(file: File) -> None:
    health = {one.name: " ".join(one.health or []) for one in file.services.values()}
    own = dict.fromkeys(("cpu-worker", "remote-worker", "gpu-worker"), "worker") | {
        "beat": "beat",
        "control": "control",
    }

    assert {name: health[name] for name in own} == {name: f"scorebeat health {which}" for name, which in own.items()}
    assert "//127.0.0.1:8000/ready'" in health["api"], "/health is 200 also while the database is away"
    assert "//127.0.0.1:5555/healthcheck'" in health["flower"]


def test_every_service_of_ours_can_mount_the_certificates(file: File) -> None:
    own = read({**ENVIRONMENT, "CERTIFICATES": "/etc/ours", "BROKER_CA": "/etc/scorebeat/ca.pem"})

    assert {one.mounts.get("/etc/scorebeat") for one in file.ours} == {"./certificates"}
    assert {one.mounts.get("/etc/scorebeat") for one in own.ours} == {"/etc/ours"}
    assert not [one.name for one in own.ours if "/etc/ours" in one.writable]
    assert {one.environment["SCOREBEAT_BROKER_CA"] for one in own.ours} == {"/etc/scorebeat/ca.pem"}


def test_exactly_the_services_that_read_models_have_a_buckets_credentials(file: File) -> None:
    readers = {one.name for one in file.services.values() if MODELS in one.mounts}

    assert readers == {"cpu-worker", "remote-worker", "gpu-worker", "api", "cli"}
    assert {one.name: one.env_files for one in file.services.values() if one.env_files} == {
        name: {STORE: False} for name in readers
    }, "False: without the file all starts as well"


def test_the_credentials_file_is_its_owners_and_in_no_commit_or_image() -> None:
    ignored = {name: (REPOSITORY / name).read_text("utf-8").splitlines() for name in (".gitignore", ".dockerignore")}

    assert {".env", STORE} <= set(ignored[".gitignore"])
    assert next(line for line in ignored[".dockerignore"] if line[0] != "#") == "*"
    assert f"!{STORE}" not in ignored[".dockerignore"]
    assert any(f"chmod 600 {STORE}" in block.text for block in Page.read(PAGE).blocks)


def test_the_page_begins_with_what_is_run_with_an_engine_and_without() -> None:
    first = " ".join(PAGE.read_text("utf-8").split("\n## ")[0].split())

    assert first.index("make test-containers") < first.index("Where no engine runs")
    run = re.findall(r"`(tests/\S+\.py)`", first)
    assert run
    assert all((REPOSITORY / path).is_file() for path in run)


def test_a_service_that_ends_by_itself_leaves_no_volume_behind(file: File) -> None:
    assert "/var/lib/postgresql" in file.services["roles"].definition["tmpfs"]
