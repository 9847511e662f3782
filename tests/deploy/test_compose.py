"""docker-compose.yml keeps its promises: closed by default, no default password, nothing that runs unwatched."""

import re
import subprocess
import sys

import pytest

from scorebeat.broker.app import make_app
from scorebeat.core.settings import Settings
from scorebeat.ops.local.up import DRAIN
from tests.deploy.compose import (
    COMPOSE,
    DONE,
    EXAMPLE,
    HEALTHY,
    REPOSITORY,
    SECRETS,
    File,
    Unset,
    fill,
    read,
    variables_of,
)
from tests.deploy.dockerfile import stages
from tests.deploy.known import unknown
from tests.deploy.patience import SERVED_TO_THE_END

ENVIRONMENT = {name: f"secret-of-{name.lower()}" for name in SECRETS}
SERVERS = REPOSITORY / "deploy/compose.servers.yml"
VARIABLES = list(variables_of(COMPOSE.read_text("utf-8")))
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|LOGIN|AUTH")
ENDING = ("roles", "migrate", "cli")
"""The services that end by themselves."""
PUBLISHED = {"flower": 5555, "api": 8000}
REMOTE = "remote-worker"
"""The worker of a second machine."""


@pytest.fixture
def file() -> File:
    return read(ENVIRONMENT)


def test_the_file_is_one_by_the_compose_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_missing_password_stops_the_start_and_its_message_names_the_next_step(name: str, value: str | None) -> None:
    environment = (
        {**ENVIRONMENT, name: value} if value is not None else {n: v for n, v in ENVIRONMENT.items() if n != name}
    )

    with pytest.raises(Unset, match=f"{name} is missing a value: copy .* to .env and fill it in") as stopped:
        read(environment)

    named = re.search(r"copy (\S+) to", str(stopped.value))
    assert named is not None
    assert REPOSITORY / named[1] == EXAMPLE


def test_there_is_no_default_password() -> None:
    secrets = {(name, how, text) for name, how, text in VARIABLES if SECRET.search(name)}

    assert {name for name, how, _ in secrets if how == "?"} == set(SECRETS)
    assert {(name, text) for name, how, text in secrets if how != "?"} == {("NOTIFY_SECRET", "")}


def test_a_secret_comes_from_a_variable(file: File) -> None:
    for service in file.services.values():
        for name, value in service.environment.items():
            if SECRET.search(name) and value:
                assert value in ENVIRONMENT.values(), f"{service.name}: {name}"


def test_no_secret_is_on_a_command_line(file: File) -> None:
    for service in file.services.values():
        words = [
            *service.definition.get("entrypoint", []),
            *service.definition.get("command", []),
            *(service.health or []),
        ]
        assert not [word for word in words if any(secret in word for secret in ENVIRONMENT.values())]
        programs = [line for word in words for line in word.splitlines() if line.startswith("exec ")]
        assert not [line for line in programs if "$" in line], "what a shell fills in is seen as well"


def test_the_example_names_every_variable_with_its_default_and_no_other() -> None:
    lines = [line for line in EXAMPLE.read_text("utf-8").splitlines() if re.match(r"#?[A-Z_]+=", line)]
    listed = dict(line.removeprefix("#").split("=", 1) for line in lines)
    defaults = {name: text if "$" not in text else "" for name, how, text in VARIABLES if how == "-"}
    of_servers = variables_of(SERVERS.read_text("utf-8"))
    defaults |= {name: text if how == "-" else "" for name, how, text in of_servers}

    assert listed.pop("COMPOSE_PROFILES") == "gpu", "Compose's own"
    assert listed.pop("COMPOSE_FILE") == "docker-compose.yml:deploy/compose.servers.yml", "Compose's own"
    assert listed == {**dict.fromkeys(SECRETS, ""), **defaults}
    assert {line.split("=")[0] for line in lines if line[0] != "#"} == set(SECRETS)


def test_only_flower_and_the_api_are_published_and_to_this_machine_only(file: File) -> None:
    ports = {
        name: service.definition["ports"] for name, service in file.services.items() if "ports" in service.definition
    }

    assert ports == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PUBLISHED.items()}
    opened = read({**ENVIRONMENT, "BIND_ADDRESS": "10.0.0.7"}).services
    assert opened["api"].definition["ports"] == ["10.0.0.7:8000:8000"]
    assert not [one for one in file.services.values() if "network_mode" in one.definition]


def test_the_others_are_on_a_network_without_ports_and_without_a_way_out(file: File) -> None:
    outside = {name for name, service in file.services.items() if "outside" in service.definition["networks"]}

    assert outside == {*PUBLISHED, "control", REMOTE}
    assert all("inside" in one.definition["networks"] for one in file.services.values() if one.name != REMOTE)
    assert file.content["networks"]["inside"] == {"internal": "true"}


def test_each_service_that_goes_on_running_is_looked_after(file: File) -> None:
    assert [one.name for one in file.services.values() if one not in file.long_running] == list(ENDING)
    for service in file.long_running:
        assert service.definition["restart"] == "unless-stopped", service.name
        assert service.health, service.name
        assert service.health_timeout <= 30
    assert {file.services[name].health for name in ENDING} == {None}


def test_nothing_starts_before_what_it_needs_is_well(file: File) -> None:
    assert file.services["roles"].needs == {"database": HEALTHY}
    assert file.services["migrate"].needs == {"roles": DONE}
    servers = {"database": HEALTHY, "broker": HEALTHY}
    for service in file.ours:
        if service.name not in ("migrate", "cli", REMOTE):
            assert service.needs == {**servers, "migrate": DONE}, service.name
    assert file.services["cli"].needs == servers, "else each `run` would migrate"
    assert file.services[REMOTE].needs == {}, "its servers are elsewhere"


def test_a_worker_has_longer_to_stop_than_its_own_limit(file: File) -> None:
    own = make_app(Settings(_env_file=None, broker_url="redis://broker/0"), str).conf.worker_soft_shutdown_timeout

    for name in ("cpu-worker", "gpu-worker"):
        assert file.services[name].grace > own
        assert file.services[name].environment["REMAP_SIGTERM"] == "SIGQUIT"
    assert file.services["control"].grace > 2 * DRAIN  # it stops its two workers one after the other
    assert file.services["api"].grace > SERVED_TO_THE_END
    assert not [one.name for one in file.services.values() if "stop_signal" in one.definition], (
        "the images' own are right"
    )


def test_every_container_has_no_more_rights_than_it_needs(file: File) -> None:
    for service in file.services.values():
        definition = service.definition
        assert (definition["read_only"], definition["cap_drop"]) == (True, ["ALL"]), service.name
        assert definition["security_opt"] == ["no-new-privileges:true"], service.name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & definition.keys(), service.name
        user = stages()[service.target].last("USER") if service.target else definition["user"]
        assert user.partition(":")[0] not in ("", "0", "root"), service.name
        assert "user" not in definition or not service.target, service.name


def test_models_are_shared_and_only_commands_may_write_them(file: File) -> None:
    at_hand = {one.name for one in file.services.values() if one.mounts.get("/srv/scorebeat/models") == "models"}

    assert at_hand == {"cpu-worker", REMOTE, "gpu-worker", "api", "cli"}
    assert {service.name for service in file.services.values() if "models" in service.writable} == {"cli"}
    assert not [service.name for service in file.services.values() if "./project" in service.writable]
    assert {"database", "broker", "models"} == set(file.content["volumes"])


def test_only_who_prepares_the_database_has_the_password_of_its_owner(file: File) -> None:
    password = ENVIRONMENT["OWNER_PASSWORD"]
    holders = {one.name for one in file.services.values() if any(password in v for v in one.environment.values())}

    assert holders == {"database", "roles", "migrate", "cli"}


def test_workers_can_be_several(file: File) -> None:
    assert not [
        one.name for one in file.services.values() if "container_name" in one.definition or "hostname" in one.definition
    ]
    assert not {"ports"} & file.services["cpu-worker"].definition.keys()


def test_the_gpu_worker_is_there_only_when_it_is_requested(file: File) -> None:
    gpu = file.services["gpu-worker"].definition
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]

    assert gpu["profiles"] == ["gpu"]
    assert (device["driver"], device["device_ids"]) == ("nvidia", ["0"])
    assert {"gpu", "compute"} <= set(device["capabilities"]), "the engine passes none, or none that computes"
    assert [one.name for one in file.services.values() if "profiles" in one.definition] == [REMOTE, "gpu-worker", "cli"]


def test_an_image_is_of_a_version_or_never_looked_for_in_a_registry(file: File) -> None:
    for service in file.services.values():
        if service.target:
            assert service.target in stages()
            assert service.definition["pull_policy"] == "never"
        else:
            assert re.fullmatch(r"(postgres:18|redis:8\.\d+)-[a-z]+", service.definition["image"])


def test_each_image_of_ours_is_built_by_one_service_alone(file: File) -> None:
    """Two would be built at the same time, and the second meets the first one's tag."""
    definitions = [one.definition for one in file.services.values() if one.name != REMOTE]  # alone on its machine
    built = [(one["image"], one["build"]["target"]) for one in definitions if "build" in one]

    assert sorted(built) == [("scorebeat:cpu", "cpu"), ("scorebeat:cuda", "cuda")]
    assert {one.definition["image"] for one in file.ours} == {image for image, _ in built}
    assert "build" in file.services["migrate"].definition, (
        "all others wait for it, so it is always among those that are built"
    )


def test_a_published_port_listens_to_more_than_its_own_container(file: File) -> None:
    assert {"--host", "0.0.0.0", "--port", "8000"} <= set(file.services["api"].definition["command"])  # noqa: S104 -- a container's
    assert {"--address=0.0.0.0", "--port=5555"} <= set(file.services["flower"].definition["command"])


def test_the_servers_of_others_find_their_user_and_their_folders(file: File) -> None:
    database, roles, broker = (file.services[name] for name in ("database", "roles", "broker"))

    # by name: the numbers of the images of Debian and of Alpine differ
    assert [one.definition["user"] for one in (database, roles, broker)] == ["postgres", "postgres", "redis"]
    assert database.mounts == {"/var/lib/postgresql": "database"}, "from version 18 on the images keep data below it"
    assert set(database.definition["tmpfs"]) == {"/tmp", "/var/run/postgresql"}  # noqa: S108 -- a container's
    assert broker.mounts == {"/data": "broker"}


def test_every_container_of_ours_has_known_settings_and_a_writable_path(file: File) -> None:
    for service in file.ours:
        assert unknown(set(service.environment)) == set(), service.name
        assert service.definition["tmpfs"] == ["/tmp"], service.name  # noqa: S108 -- a container's
        assert "HOME" not in service.environment, "it is the image's"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a${B:-c}d", "acd"),
        ("${A:-x}", "1"),
        ("${EMPTY:-x}", "x"),
        ("${B:-in ${A:?no} it}", "in 1 it"),
        ("$$A $${A}", "$A ${A}"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text: str, filled: str) -> None:
    assert fill(text, {"A": "1", "EMPTY": ""}) == filled
