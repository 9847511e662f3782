"""The Redis user of docs/how-to/own-servers.md: enough for everything that we do, and for nothing else."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis

from scorebeat.broker.permissions import require_rights
from scorebeat.core.errors import ServiceDown
from scorebeat.core.states import RunState
from tests.docs.pages import REPOSITORY, Page
from tests.support.fixtures import wait_for
from tests.support.flower_program import knows_of_scored, start_flower
from tests.support.proxy import Proxy, proxy_to
from tests.support.system import System, assert_scored_once, own_system, reached

pytestmark = pytest.mark.wide(slow=15)

PAGE = Page.read(REPOSITORY / "docs/how-to/own-servers.md")
USER = next(line for block in PAGE.blocks for line in block.lines if line.startswith("ACL SETUSER"))
"""The one line of the page."""
OURS = "scorebeat:3f9a1c07:"
"""The prefix of the page's installation."""
NAME, PASSWORD = "scorebeat", "secret"
COMMANDS = [word[1:] for word in USER.split() if word.startswith("+")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("acl")) as made:
        yield made


@pytest.fixture
def admin(plain: System) -> Iterator[Any]:
    """The server's own user, who may do everything."""
    with redis.Redis(unix_socket_path=plain.servers.broker_socket, decode_responses=True) as client:
        admin: Any = client  # redis-py types few of its commands
        admin.acl_deluser(NAME)
        admin.execute_command(*USER.replace(OURS, plain.p.app.prefix()).split())
        yield admin


@pytest.fixture
def proxy(plain: System) -> Iterator[Proxy]:
    with proxy_to(plain.servers.broker_socket) as made:
        yield made


@pytest.fixture
def s(plain: System, admin: Any, proxy: Proxy) -> Iterator[System]:
    """The system, whose every process is that user to the broker."""
    admin.acl_log_reset()
    with reached(plain, broker_url=f"redis://{NAME}:{PASSWORD}@127.0.0.1:{proxy.port}/0") as made:
        yield made


def refused(admin: Any) -> list[str]:
    """The commands that the server refused, by user."""
    return [f"{entry['username']} {entry['reason']} {entry['object']}" for entry in admin.acl_log()]


def commands(admin: Any) -> set[str]:
    """The commands that the server got since it started."""
    return {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}


def test_everything_that_we_do_is_done_by_a_user_with_those_rights(s: System, admin: Any) -> None:
    job = s.job("by_acl")
    flower = start_flower(s, login="ann:secret")
    s.programs.control()
    worker = s.programs.start(
        "celery", "-A", "scorebeat.worker", "worker", "-Q", "cpu", "-c", "1", "-l", "INFO"
    )  # gossips
    run = s.enqueue(job)

    assert s.until_finished(run) is RunState.SUCCEEDED
    assert_scored_once(s, job)
    require_rights(s.p.app)
    assert "<td>cpu</td>" in flower.get("/broker").text
    wait_for(lambda: knows_of_scored(flower))
    wait_for(lambda: "active_queues" in flower.get("/api/workers?refresh=1").text)  # remote control, and its replies
    wait_for(lambda: commands(admin) >= {"zrangebyscore", "zrange", "evalsha"})  # done now and then only
    s.programs.stop(worker)
    assert refused(admin) == []
    assert all(key.startswith(s.p.app.prefix()) for key in admin.scan_iter("*"))


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "CONFIG GET *", "CONFIG SET save x", "SHUTDOWN", "ACL LIST",
        "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE normal", "EVAL return 0", "SAVE", "REPLICAOF NO ONE",
        "GET other", "SET other 1", "LPUSH other 1", "DEL other", "LRANGE other 0 1", "BRPOP other 1",
        "SUBSCRIBE other", "PSUBSCRIBE *", "PUBLISH other 1", "SWAPDB 0 1", "MIGRATE h 1 k 0 1",
    ],
)  # fmt: skip
def test_that_user_may_do_nothing_to_the_server_nor_to_what_is_not_ours(
    command: str, plain: System, admin: Any
) -> None:
    admin.set("other", "theirs")
    client: Any = redis.Redis(unix_socket_path=plain.servers.broker_socket, username=NAME, password=PASSWORD)

    with closing(client), pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())

    assert admin.get("other") == "theirs"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_right_that_is_missing_is_named(command: str, s: System, admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", NAME, f"-{command}")

    with pytest.raises(ServiceDown, match=r"NOPERM|permission") as caught:
        require_rights(s.p.app)

    assert command.partition("|")[0] in str(caught.value).lower()
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["brpop", "hset"])
def test_a_right_that_a_worker_loses_ends_no_worker_and_no_run(command: str, s: System, admin: Any) -> None:
    job = s.job(f"without_{command}")
    s.programs.control()
    worker = s.programs.worker("cpu")
    s.until_served("cpu", "control")
    with missing(admin, command):
        run = s.enqueue(job)
        wait_for(lambda: refusals(s.programs.logs(), command))

    assert s.until_finished(run) is RunState.SUCCEEDED
    assert worker.poll() is None
    assert_scored_once(s, job)


def refusals(log: str, command: str) -> list[str]:
    return [line for line in log.splitlines() if "broker.refuses" in line and f"'{command}'" in line]


@contextmanager
def missing(admin: Any, command: str) -> Iterator[None]:
    admin.execute_command("ACL", "SETUSER", NAME, f"-{command}")
    try:
        yield
    finally:
        admin.execute_command("ACL", "SETUSER", NAME, f"+{command}")
