"""What each service of docker-compose.yml is given to be stopped, watched and trusted, and what it leaves behind."""

import pytest

from tests.deploy.compose import SECRETS, File, read, seconds

GIVEN = dict.fromkeys(SECRETS, "secret")


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


def test_what_ends_by_itself_leaves_no_volume_behind(file: File) -> None:
    assert "/var/lib/postgresql" in file.services["roles"].given["tmpfs"]
