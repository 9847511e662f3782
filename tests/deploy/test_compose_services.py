"""What each service of docker-compose.yml is given to be stopped, watched and trusted, and what it leaves behind."""

import re
from pathlib import Path

import pytest

from tests.deploy.compose import REPOSITORY, SECRETS, File, read, seconds
from tests.docs.pages import Page

GIVEN = dict.fromkeys(SECRETS, "secret")
PAGE = REPOSITORY / "docs/how-to/docker-compose.md"
STORE = "store.env"
MODELS = "/srv/scorebeat/models"


@pytest.fixture
def file() -> File:
    return read(GIVEN)


def test_each_container_has_a_first_process_that_gives_signals_on(file: File) -> None:
    assert [one.name for one in file.services.values() if one.given.get("init") is not True] == []


def test_a_service_that_is_stuck_is_seen_within_minutes(file: File) -> None:
    for service in file.long_running:
        check = service.given["healthcheck"]
        assert 1 <= seconds(check["interval"]) <= 60, service.name
        assert 2 <= check["retries"] <= 12, service.name
        assert 20 <= seconds(check["start_period"]) <= 120, service.name
    assert (file.services["database"].health or [])[1:3] == ["-h", "127.0.0.1"], "its socket answers too early"


def test_what_certificates_are_needed_can_be_shown_to_every_service_of_ours(file: File) -> None:
    own = read({**GIVEN, "CERTIFICATES": "/etc/ours", "BROKER_CA": "/etc/scorebeat/ca.pem"})

    assert {one.mounts.get("/etc/scorebeat") for one in file.ours} == {"./certificates"}
    assert {one.mounts.get("/etc/scorebeat") for one in own.ours} == {"/etc/ours"}
    assert not [one.name for one in own.ours if "/etc/ours" in one.writable]
    assert {one.environment["SCOREBEAT_BROKER_CA"] for one in own.ours} == {"/etc/scorebeat/ca.pem"}


def test_who_reads_models_and_nobody_else_is_given_the_credentials_of_a_bucket(file: File) -> None:
    readers = {one.name for one in file.services.values() if MODELS in one.mounts}

    assert readers == {"cpu-worker", "gpu-worker", "api", "cli"}
    assert {one.name: one.env_files for one in file.services.values() if one.env_files} == {
        name: {STORE: False} for name in readers
    }, "False: without the file all starts as well"


def test_the_pages_credentials_reach_the_containers_and_change_nothing_else(file: File, tmp_path: Path) -> None:
    (shown,) = (block for block in Page.read(PAGE).blocks if block.file == STORE)
    (tmp_path / STORE).write_text(f"# of ours\n\n{shown.text}SCOREBEAT_LOG_FORMAT=other\n", "utf-8")
    told = dict(line.split("=", 1) for line in shown.lines)

    assert set(told) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
    for name, service in read(GIVEN, tmp_path).services.items():
        usual = file.services[name]
        assert service.environment == usual.environment | (told if usual.env_files else {}), name


def test_the_file_of_credentials_is_for_its_owner_and_goes_into_no_commit_and_no_image() -> None:
    ignored = {name: (REPOSITORY / name).read_text("utf-8").splitlines() for name in (".gitignore", ".dockerignore")}

    assert {".env", STORE} <= set(ignored[".gitignore"])
    assert next(line for line in ignored[".dockerignore"] if line[0] != "#") == "*"
    assert f"!{STORE}" not in ignored[".dockerignore"]
    assert any(f"chmod 600 {STORE}" in block.text for block in Page.read(PAGE).blocks)


def test_the_page_says_before_all_else_that_no_engine_ran_it_and_what_was_run_instead() -> None:
    first = " ".join(PAGE.read_text("utf-8").split("\n## ")[0].split())

    assert "No container engine runs where Scorebeat is tested" in first
    run = re.findall(r"`(tests/\S+\.py)`", first)
    assert run
    assert all((REPOSITORY / path).is_file() for path in run)


def test_what_ends_by_itself_leaves_no_volume_behind(file: File) -> None:
    assert "/var/lib/postgresql" in file.services["roles"].given["tmpfs"]
