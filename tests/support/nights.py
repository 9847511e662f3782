"""Nights that go wrong: real programs, a receiver of webhooks, Flower, and all that a person may look at."""

import html
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from sqlalchemy import make_url

from scorebeat.core.jobs.job import Job
from tests.support.fixtures import typed, wait_for
from tests.support.flower_program import Flower, start_flower
from tests.support.proxy import Proxy, proxy_to
from tests.support.receiver import Receiver, receiving
from tests.support.scrape import Samples, of, samples
from tests.support.source_tables import BIGINT, fill
from tests.support.system import System, own_system

YEARLY = "0 0 1 1 *"
"""Due once within the last year, and hardly in the middle of a test."""
ROLE = "scorer"
"""The worker's; nothing else runs under it."""
PASSWORD = "as-it-was"
COMMAND = re.compile(r"`(scorebeat [^`]+)`")


@dataclass(frozen=True)
class Seen:
    """One job at one time, as people and their tools see it."""

    runs: str
    """Printed by `scorebeat runs`."""
    jobs: str
    """Printed by `scorebeat jobs`."""
    page: str
    """The Runs page of Flower."""
    posts: list[dict[str, Any]]
    """The posts to its webhook, the oldest first."""
    metrics: Samples
    log: str
    """Of control and the worker."""

    def events(self) -> list[str]:
        return [str(post["event"]) for post in self.posts]

    def metric(self, name: str, **labels: str) -> float:
        return of(self.metrics, name, **labels)

    def assert_reported(self, words: str) -> None:
        """In `runs`, on the page and in the last post."""
        assert words in self.runs
        assert words in self.page
        assert words in self.posts[-1]["text"], self.posts[-1]

    def assert_logged(self, level: str, event: str, **fields: object) -> None:
        """A line of this level, event and fields."""
        lines = [line for line in self.log.splitlines() if f" {event} " in line and level in line]
        expected = [f"{name}={value}" for name, value in fields.items()]
        assert any(all(one in line for one in expected) for line in lines), (event, expected, lines)


@dataclass
class Night:
    """A system that is on, and the ways to make a job due, to look at it and to follow a message."""

    system: System
    receiver: Receiver
    flower: Flower
    wire: Proxy
    """Between the worker and the database."""
    programs: list["Popen[bytes]"] = field(default_factory=list)

    def on(self) -> None:
        """Start control, beat and the worker."""
        s = self.system
        url = make_url(s.servers.urls.database_url).set(host="127.0.0.1", port=self.wire.port, query={})
        away = url.set(username=ROLE, password=PASSWORD).render_as_string(hide_password=False)
        before = len(s.programs.started)
        s.programs.control()
        s.programs.worker("cpu", SCOREBEAT_DATABASE_URL=away)
        self.programs = [process for process, _ in s.programs.started[before:]]
        s.until_served("cpu", "control", "plan")

    def off(self) -> None:
        for process in reversed(self.programs):
            self.system.programs.stop(process)

    @property
    def worker(self) -> "Popen[bytes]":
        return self.programs[-1]

    def job(self, name: str, **options: Any) -> Job:
        """With a schedule, a webhook and 40 rows that no run has scored."""
        return self.system.job(name, rows=40, schedule=YEARLY, notify=self.receiver.url, **options)

    def more_rows(self, job: Job) -> None:
        fill(self.system.engine, job.name, BIGINT, 40, 40)

    def is_due(self, job: Job) -> None:
        """Its last due time is as good as now: it has no run."""
        self.system.execute(
            "UPDATE scorebeat.jobs SET last_due_at = now() - interval '1 year' WHERE name = :job", job=job.name
        )

    def is_late(self, run: int) -> None:
        self.system.execute("UPDATE scorebeat.runs SET deadline_at = now() WHERE id = :run", run=run)

    def is_tried_again(self, job: Job) -> None:
        """The pause before another attempt to begin the run is over."""
        self.system.execute(
            "UPDATE scorebeat.runs SET retry_at = now() WHERE job = :job AND retry_at IS NOT NULL", job=job.name
        )

    def worker_is_not_seen(self) -> None:
        """For so long that it counts as gone."""
        self.system.execute(
            "UPDATE scorebeat.workers SET seen_at = seen_at - interval '1 minute' WHERE name LIKE :pid",
            pid=f"%/{self.worker.pid}",
        )

    def run(self, job: Job, *states: str) -> int:
        """The newest run of the job, when it is in one of these states."""
        statement = (
            "SELECT id FROM (SELECT id, state FROM scorebeat.runs WHERE job = :job ORDER BY id DESC LIMIT 1) r"
            " WHERE state = ANY (:states)"
        )
        return int(wait_for(lambda: self.system.query(statement, job=job.name, states=list(states)))[0][0])

    def until_scored(self, job: Job) -> int:
        """The job's newest run, when all of it was scored and reported."""
        run = self.run(job, "succeeded")
        self.until_posted(job, "finished", run)
        return run

    def until_posted(self, job: Job, event: str, run: int) -> None:
        wait_for(lambda: any((p["event"], p["id"]) == (event, run) for p in self.posts(job)))

    def posts(self, job: Job) -> list[dict[str, Any]]:
        bodies = [json.loads(body) for _, _, body in self.receiver.got]
        return [body for body in bodies if body["job"] == job.name]

    def look(self, job: Job) -> Seen:
        page = html.unescape(self.flower.get(f"/runs?job={job.name}").text)
        return Seen(
            runs=self.type("scorebeat", "runs", "--job", job.name),
            jobs=self.type("scorebeat", "jobs"),
            page=page.replace("<code>", "`").replace("</code>", "`"),
            posts=self.posts(job),
            metrics=samples(self.system.engine),
            log="\n".join(self.system.programs.log(process) for process in self.programs),
        )

    def follow_advice(self, post: dict[str, Any]) -> str:
        """Type the last command that the message names."""
        return self.type(*shlex.split(COMMAND.findall(post["text"])[-1]))

    def type(self, *words: str) -> str:
        """The output of the command; it must go well."""
        assert words[0] == "scorebeat"
        done = typed(self.system.settings, *words[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@contextmanager
def a_night(folder: Path) -> Iterator[Night]:
    """Everything is on; the worker's way to the database is a wire that a test may cut."""
    with receiving() as receiver, own_system(folder) as system:
        system.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        socket = f"{make_url(system.servers.urls.database_url).query['host']}/.s.PGSQL.5432"
        with proxy_to(socket) as wire:
            night = Night(system, receiver, start_flower(system), wire)
            night.on()
            yield night
            wire.resume()
            night.off()
