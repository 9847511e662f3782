"""A user's parts for the containers of docker-compose.yml: a table of flowers, a model for them and two jobs."""

from typing import Any

import numpy as np
import psycopg2
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.deploy.machine import Machine

ROWS = 1500
INPUTS = ("a", "b", "c", "d")
JOBS = """
[jobs.flowers]
query = "SELECT id, a, b, c, d FROM flowers"
key = "id"
model = "flowers"
batch_rows = 500

[jobs.ticking]
query = "SELECT id, a, b, c, d FROM flowers"
key = "id"
model = "flowers"
schedule = "every 2 seconds"
queue = "gpu"
"""


def bring(machine: Machine) -> None:
    """Put them there, by its commands where there is one."""
    iris, draw = load_iris(), np.random.default_rng(1)
    rows = iris.data[draw.integers(0, 150, ROWS)]
    with psycopg2.connect(url(machine)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE flowers (id bigint PRIMARY KEY, a float8, b float8, c float8, d float8)")
        values = ", ".join(f"({i}, {a}, {b}, {c}, {d})" for i, (a, b, c, d) in enumerate(rows, 1))
        cursor.execute(f"INSERT INTO flowers VALUES {values}")
    project = machine.path("/project")
    (project / "jobs.toml").write_text(JOBS)
    skops.io.dump(model(), project / "flowers.skops")
    added = machine.run("models", "add", "flowers.skops", "--name", "flowers", "--inputs", ",".join(INPUTS))
    assert added.returncode == 0, added.stdout + added.stderr
    applied = machine.run("apply")
    assert applied.returncode == 0, applied.stdout + applied.stderr


def model() -> Any:
    iris = load_iris()
    return LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target])


def assert_scored_once(machine: Machine, job: str) -> None:
    found = query(
        machine, f"SELECT f.id, a, b, c, d, label FROM flowers f JOIN predictions.{job} USING (id) ORDER BY 1"
    )
    assert [row[0] for row in found] == list(range(1, ROWS + 1))
    assert [row[5] for row in found] == list(model().predict(np.array([row[1:5] for row in found])))


def query(machine: Machine, statement: str) -> list[tuple[Any, ...]]:
    with psycopg2.connect(url(machine)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def url(machine: Machine) -> str:
    return machine.environment(machine.file.services["cli"])["SCOREBEAT_DATABASE_URL"]
