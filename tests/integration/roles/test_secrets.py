"""Passwords, tokens and keys are in no output: every error is made, and everything is read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

from tests.support.fixtures import free_port, wait_for
from tests.support.secret_system import SECRETS, TOKEN, Whole, let_in, whole_system, wrong_settings
from tests.support.system import System, children

pytestmark = pytest.mark.slow

PATHS_OF_FLOWER = (
    "/", "/workers", "/broker", "/tasks", "/runs", "/runs/1", "/runs/2", "/runs/999", "/api/tasks", "/api/workers",
    "/api/queues/length", "/metrics", "/tasks/datatable?draw=1&start=0&length=50",
)  # fmt: skip
PATHS_OF_THE_API = (
    "/health", "/ready", "/metrics", "/runs", "/runs/1", "/runs/2", "/runs/999", "/jobs", "/openapi.json",
    "/data/all?job=leaves", "/data/1?job=leaves", "/data/all?job=broken", "/data/predicted?job=leaves",
)  # fmt: skip
COMMANDS = (
    ("check",), ("runs", "--json"), ("show", "1", "--json"), ("failures",), ("plan", "broken"), ("enqueue", "nobody"),
    ("prune", "--older-than", "1d"), ("apply",),
)  # fmt: skip


@dataclass
class Seen:
    """Everything that was printed, returned or shown, by where it was."""

    texts: dict[str, str] = field(default_factory=dict)

    def holding(self, secret: str) -> dict[str, str]:
        """Where it is, with the text around it."""
        spelled = re.compile(f".{{0,80}}{re.escape(secret)}.{{0,40}}")
        return {source: found.group() for source, text in self.texts.items() if (found := spelled.search(text))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def seen(whole: Whole) -> Seen:
    """A run, and each error that there is, with all output."""
    found = Seen()
    s, api_port = whole.s, free_port()
    up = s.programs.start("scorebeat.ops.cli", "up", **whole.environment)
    api = s.programs.start("scorebeat.ops.cli", "api", "--port", str(api_port), **whole.environment)
    flower = wait_for(lambda: re.findall(r"Flower: (http://127\.0\.0\.1:\d+)", s.programs.log(up)))[0]
    wait_for(lambda: f":{api_port}" in s.programs.log(api))
    s.until_served("cpu", "control", "plan")
    for job in ("leaves", "broken"):
        found.texts[f"enqueue {job}"] = whole.command("enqueue", job, "--wait")
    wait_for(lambda: s.query("SELECT 1 FROM scorebeat.notices WHERE attempts > 0"))
    look_at_commands(whole, found)
    look_at_flower(flower, found)
    look_at_api(f"http://127.0.0.1:{api_port}", found, "")
    look_at_processes([up, api], found)
    look_at_psql(whole, found)
    break_everything(whole, up, f"http://127.0.0.1:{api_port}", found)
    make_every_mistake(whole, found)
    look_at_database(s, found)
    found.texts |= {log.name: log.read_text("utf-8", "replace") for _, log in s.programs.started}
    return found


def look_at_commands(whole: Whole, found: Seen) -> None:
    for words in COMMANDS:
        found.texts[" ".join(words)] = whole.command(*words)


def look_at_flower(url: str, found: Seen) -> None:
    def get(path: str) -> str:
        response = httpx.get(url + path, timeout=30)
        found.texts[f"Flower {path} of {url}"] = text = response.text + str(response.headers)
        return text

    workers = re.findall(r"[a-z]+-\d+@[\w.-]+", get("/api/workers?refresh=1"))
    assert workers
    for path in (*PATHS_OF_FLOWER, *(f"/worker/{name}" for name in set(workers))):
        get(path)
    assert any("broker_url" in text for text in found.texts.values())


def look_at_api(url: str, found: Seen, when: str) -> None:
    for token in (TOKEN, TOKEN[:-1], ""):
        for path in PATHS_OF_THE_API:
            response = httpx.get(url + path, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=60)
            found.texts[f"API {path} {len(token)} {when}"] = response.text + str(response.headers)


def look_at_processes(started: list["Popen[bytes]"], found: Seen) -> None:
    """The output of `ps`, for every user of the machine, of all that was started."""
    waiting = [process.pid for process in started]
    while waiting:
        pid = waiting.pop()
        waiting += children(pid)
        found.texts[f"title of process {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    assert sum(source.startswith("title of") for source in found.texts) > 8


def look_at_psql(whole: Whole, found: Seen) -> None:
    psql = whole.s.programs.start("scorebeat.ops.cli", "psql", "-c", "SELECT pg_sleep(3)", **whole.environment)
    wait_for(lambda: whole.s.query("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3)'"))
    look_at = [psql.pid, *children(psql.pid)]
    assert len(look_at) > 1
    for pid in look_at:
        found.texts[f"title of psql {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    psql.wait(30)


def break_everything(whole: Whole, up: "Popen[bytes]", api: str, found: Seen) -> None:
    """The servers are killed under all that runs, and the broker comes back without its users."""
    s = whole.s
    s.servers.restart("database", "SIGKILL")
    look_at_api(api, found, "after the database's restart")
    s.servers.restart("broker", "SIGKILL")
    wait_for(lambda: re.search("WRONGPASS|invalid username-password", s.programs.log(up)))
    found.texts["check without the broker's user"] = whole.command("check")
    found.texts["enqueue without the broker's user"] = whole.command("enqueue", "leaves")
    let_in(s)
    s.execute("ALTER ROLE marked NOLOGIN")
    s.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'marked'")
    look_at_api(api, found, "while the database lets nobody in")
    wait_for(lambda: re.search("not permitted to log in|database_away", s.programs.log(up)))
    found.texts["check without the role"] = whole.command("check")
    s.execute("ALTER ROLE marked LOGIN")


def make_every_mistake(whole: Whole, found: Seen) -> None:
    for variable, value in wrong_settings():
        found.texts[f"check with {variable}={value}"] = whole.command("check", **{variable: value})
    worker = whole.s.programs.start(
        "celery", "-A", "scorebeat.worker", "worker", **whole.environment | dict(wrong_settings()[:1])
    )
    wait_for(lambda: re.search("database_away|cannot be used", whole.s.programs.log(worker)))


def look_at_database(s: System, found: Seen) -> None:
    for table in ("actions", "notices", "batches", "quarantine", "workers", "run_status"):
        found.texts[f"the table {table}"] = str(s.query(f"SELECT * FROM scorebeat.{table}"))
    found.texts["the sessions"] = str(s.query("SELECT application_name, query FROM pg_stat_activity"))


@pytest.mark.parametrize("which", SECRETS)
def test_a_secret_is_in_nothing_that_is_printed_returned_or_shown(seen: Seen, which: str) -> None:
    assert len(seen.texts) > 100
    assert seen.holding(SECRETS[which]) == {}
