"""All of Scorebeat on servers that require passwords, each secret a word that is nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from sqlalchemy import make_url

from tests.support.fixtures import free_port, typed
from tests.support.proxy import proxy_to
from tests.support.source_tables import BIGINT, INPUTS, fill
from tests.support.system import MODEL, System, own_system

DATABASE, BROKER = "sleepy7oak", "copper9moth"
TOKEN, SECRET = "teal-anvil-of-forty-words", "umber-kettle-of-fifty-words"
HOOK_PASSWORD, HOOK_PATH = "violet3gorse", "amber8thistle"
SECRETS = {
    "the database's password": DATABASE,
    "the broker's password": BROKER,
    "the API's token": TOKEN,
    "what notices are signed with": SECRET,
    "the receiver's password": HOOK_PASSWORD,
    "the path of the receiver's address": HOOK_PATH,
}
JOBS = f"""
[jobs.leaves]
query = "SELECT id, {", ".join(INPUTS)} FROM leaves"
key = "id"
model = "{MODEL}"
batch_rows = 50
notify = "http://ann:{HOOK_PASSWORD}@127.0.0.1:{{port}}/{HOOK_PATH}"

[jobs.broken]
query = "SELECT id, {", ".join(f"{name} / (id - 7) AS {name}" for name in INPUTS)} FROM leaves"
key = "id"
model = "{MODEL}"
"""


@dataclass(frozen=True)
class Whole:
    """All of Scorebeat as `up` runs it, and the API, on servers that require passwords."""

    s: System
    environment: dict[str, str]

    def command(self, name: str, *arguments: str, **changed: str) -> str:
        """The output of a command."""
        done = typed(self.s.settings, name, *arguments, **self.environment | changed)
        return done.stdout + done.stderr


@contextmanager
def whole_system(folder: Path) -> Iterator[Whole]:
    """Nothing is started but the servers."""
    with own_system(folder) as s, proxy_to(database_socket(s)) as database, proxy_to(s.servers.broker_socket) as broker:
        fill(s.engine, "leaves", BIGINT, 0, 200)
        s.settings.jobs.write_text(JOBS.format(port=free_port()))
        with_passwords(s)
        name = make_url(s.settings.database()).database
        environment = {
            "SCOREBEAT_DATABASE_URL": f"postgresql://marked:{DATABASE}@127.0.0.1:{database.port}/{name}",
            "SCOREBEAT_BROKER_URL": f"redis://marked:{BROKER}@127.0.0.1:{broker.port}/0",
            "SCOREBEAT_API_TOKEN": TOKEN,
            "SCOREBEAT_NOTIFY_SECRET": SECRET,
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        yield Whole(s, environment)


def database_socket(s: System) -> str:
    folder = make_url(s.settings.database()).query["host"]
    assert isinstance(folder, str)
    return next(str(path) for path in Path(folder).glob(".s.PGSQL.*") if not path.name.endswith(".lock"))


def with_passwords(s: System) -> None:
    s.execute(f"CREATE ROLE marked SUPERUSER LOGIN PASSWORD '{DATABASE}'")
    let_in(s)


def let_in(s: System) -> None:
    """The broker forgets its users when it is restarted."""
    with redis.Redis(unix_socket_path=s.servers.broker_socket) as client:
        client.execute_command("ACL", "SETUSER", "marked", "on", f">{BROKER}", "~*", "&*", "+@all")


def wrong_settings() -> list[tuple[str, str]]:
    """Variables, each with a value that holds a secret and cannot be used."""
    port = free_port()
    wrong = {
        "SCOREBEAT_DATABASE_URL": [
            f"postgresql://marked:{DATABASE}@127.0.0.1:{port}/x", f"postgresql://marked:{DATABASE}@no host/x",
            f"postgres://marked:{DATABASE}@h/x", f"postgresql://marked:{DATABASE}@h:port/x",
            f"postgresql://127.0.0.1:{port}/x?user=marked&password={DATABASE}",
            f"postgresql://marked:{DATABASE}@127.0.0.1:{port}/x?nothing=1",
        ],
        "SCOREBEAT_BROKER_URL": [
            f"redis://marked:{BROKER}@127.0.0.1:{port}/0", f"redis://:{BROKER}/@h", f"amqp://marked:{BROKER}@h",
            f"redis://marked:{BROKER}@127.0.0.1:{port}/a", f"rediss://marked:{BROKER}@127.0.0.1:{port}/0",
            f"redis+socket://:{BROKER}@/nowhere.sock",
        ],
        "SCOREBEAT_API_TOKEN": [f"{TOKEN} {TOKEN}"], "SCOREBEAT_NOTIFY_SECRET": [f"{SECRET}é"],
    }  # fmt: skip
    return [(variable, value) for variable, values in wrong.items() for value in values]
