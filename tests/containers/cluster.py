"""What tests of pods share: passwords, the trial's servers, and queries of the ledger in them."""

import secrets

from tests.containers.pods import Node, RunningPod, pod_of
from tests.deploy.kustomize import Resource

DATABASE, BROKER, TOKEN = (secrets.token_hex(16) for _ in range(3))
RUN_PASSWORD = secrets.token_hex(16)
SERVERS = ("database", "broker")
BURST = RUN, WORKERS = ("iris-run", "iris-workers")

System = dict[str, RunningPod]


def secrets_of_one_role() -> dict[str, dict[str, str]]:
    """The secrets that pods refer to; the owner's login is everybody's until `use_two_roles`."""
    return {
        "scorebeat-servers": {"POSTGRES_PASSWORD": DATABASE, "REDIS_PASSWORD": BROKER},
        "scorebeat-owner": {
            "SCOREBEAT_DATABASE_URL": f"postgresql://scorebeat_owner:{DATABASE}@database:5432/scorebeat"
        },
        "scorebeat": {
            "SCOREBEAT_DATABASE_URL": f"postgresql://scorebeat_owner:{DATABASE}@database:5432/scorebeat",
            "SCOREBEAT_BROKER_URL": f"redis://:{BROKER}@broker:6379/0",
            "SCOREBEAT_API_TOKEN": TOKEN,
            "FLOWER_BASIC_AUTH": "ann:secret",
        },
    }


def started(machine: Node, objects: tuple[Resource, ...], owners: tuple[str, ...]) -> System:
    """A pod of each of these workloads, ready."""
    made = {name: RunningPod(machine, pod_of(objects, name), objects, name) for name in owners}
    for pod in made.values():
        pod.start()
    for pod in made.values():
        pod.until_ready()
    return made


def migrated(machine: Node, objects: tuple[Resource, ...]) -> None:
    """The shape's Job `migrate` has ended well."""
    job = RunningPod(machine, pod_of(objects, "migrate"), objects, "migrate")
    job.start()
    assert job.exit_code("apply") == 0, job.log("apply")
    job.remove()


def sql(servers: System, statement: str) -> str:
    done = servers["database"].exec(
        "database", "psql", "-U", "scorebeat_owner", "-At", "-v", "ON_ERROR_STOP=1", "scorebeat", "-c", statement
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def use_two_roles(machine: Node, servers: System) -> None:
    """From now on pods have the few rights of a role that owns nothing; only the Job `migrate` is the owner's."""
    sql(servers, f"CREATE ROLE scorebeat_run LOGIN PASSWORD '{RUN_PASSWORD}'")
    sql(servers, "GRANT SELECT ON items TO scorebeat_run")
    url = f"postgresql://scorebeat_run:{RUN_PASSWORD}@database:5432/scorebeat"
    machine.secrets["scorebeat"] |= {"SCOREBEAT_DATABASE_URL": url}


def require_each_row_once(servers: System) -> None:
    rows = int(sql(servers, "SELECT count(*) FROM items"))
    assert sql(servers, "SELECT count(*), count(DISTINCT id) FROM predictions.iris") == f"{rows}|{rows}"


def add_rows(servers: System, rows: int) -> None:
    """Rows like those of the example, with ids that follow."""
    sql(
        servers,
        "INSERT INTO items (id, values) SELECT m.id + row_number() OVER (), i.values"
        f" FROM (SELECT max(id) AS id FROM items) AS m, items AS i, generate_series(1, 1000) LIMIT {rows}",
    )
