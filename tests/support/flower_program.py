"""Flower with our tab, as a real program beside a system, and a job whose model dislikes chosen rows."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scorebeat.core.jobs.job import Job
from scorebeat.models.formats import registry
from scorebeat.producer.versions import publish
from tests.support import poison
from tests.support.fixtures import free_port, wait_for
from tests.support.system import System


@dataclass(frozen=True)
class Flower:
    """One running Flower."""

    url: str
    login: str | None = None
    """`name:password` of basic authentication."""

    def get(self, path: str) -> httpx.Response:
        return self._request("GET", path)

    def post(self, path: str, **fields: str) -> httpx.Response:
        """As a page does it, with its token."""
        token = self.get("/runs").cookies["_xsrf"]
        return self.post_with({"Cookie": f"_xsrf={token}", "X-XSRFToken": token}, path, **fields)

    def post_with(self, headers: Mapping[str, str], path: str, **fields: str) -> httpx.Response:
        """With these headers, whatever they are."""
        return self._request("POST", path, headers=headers, data=fields)

    def _request(self, method: str, path: str, **what: Any) -> httpx.Response:
        name, _, password = (self.login or "").partition(":")
        return httpx.request(method, self.url + path, auth=(name, password) if self.login else None, timeout=30, **what)


def message_of(response: httpx.Response) -> str:
    """The message of an action's response."""
    return str(response.json()["message"])


def start_flower(s: System, *, login: str | None = None, address: str = "127.0.0.1", **options: str) -> Flower:
    """Start Flower, wait until it responds; `options` are Flower's, by name."""
    port = free_port()
    flags = {"port": str(port), "address": address, "logging": "warning", **options}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    if login is not None:
        arguments.append(f"--basic-auth={login}")
    s.programs.start("celery", "-A", "scorebeat.worker", "--quiet", "flower", *arguments)
    flower = Flower(f"http://127.0.0.1:{port}{options.get('url_prefix', '')}", login)
    wait_for(lambda: _is_up(flower))
    return flower


def poisoned_job(
    s: System,
    name: str,
    rows: int,
    kinds: Mapping[str, Iterable[int]],
    *,
    seconds_a_row: float = 0.0,
    placed: Path | None = None,
    **options: Any,
) -> Job:
    """A table `name (id, x)`, x = id + 0.5, and a job of its own model, which does each kind of harm for these ids.

    Whoever loads the model leaves a line in the file `placed`, and fails where its folder is not there.
    """
    registry.register(poison.SUFFIX, poison.__name__)
    path = Path(s.settings.artifacts).parent / f"{name}{poison.SUFFIX}"
    harm = {kind: [i + 0.5 for i in ids] for kind, ids in kinds.items()}
    left = {"placed": str(placed)} if placed else {}
    path.write_text(json.dumps({**harm, **left, "seconds_a_row": seconds_a_row}))
    publish.add(s.p, path, name, "test")
    s.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, x float8)")
    s.execute(f"INSERT INTO {name} SELECT i, i + 0.5 FROM generate_series(1, :rows) i", rows=rows)
    s.execute(f"ANALYZE {name}")
    job = Job.model_validate(
        {"name": name, "query": f"SELECT id, x FROM {name}", "key": "id", "model": name, **options}
    )
    s.apply(job)
    return job


def start_worker(s: System, processes: int = 1) -> None:
    """A worker that knows the tests' model format, and what keeps the ledger moving."""
    options = ("-Q", "cpu", "-n", "cpu@%h", "-c", str(processes), "-I", poison.__name__)
    s.programs.start("celery", "-A", "scorebeat.worker", "worker", *options, "-l", "INFO")
    s.programs.control()
    s.until_served("cpu", "control", "plan")


def knows_of_scored(flower: Flower) -> bool:
    """An event of a batch's end reached it, over the broker."""
    metrics = flower.get("/metrics").text
    return any(
        "scorebeat.score" in line and "task-succeeded" in line
        for line in metrics.splitlines()
        if line.startswith("flower_events_total")
    )


def _is_up(flower: Flower) -> bool:
    try:
        return flower.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False
