"""The shells in deploy/kubernetes, with a stub for our program: what they repeat, and what ends them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.manifests import calls, named, ours, shape

SHAPE = shape("overlays/burst")
SHELLS = {
    (pod.owner, container["name"]): container["command"]
    for pod in ours(SHAPE)
    for container in pod.containers
    if container["command"][0] == "sh" and pod.owner != "migrate"
}
ENQUEUES = [which for which in SHELLS if which[1] == "enqueue"]
LATER = range(10, 31)
"""Seconds until one tries again, as documented."""


@dataclass(frozen=True)
class Stub:
    """Programs in a folder that replace ours: the command `first` ends with one code after the other."""

    folder: Path
    first: str
    codes: tuple[int, ...]
    open_run: str = ""
    """State of the run that `scorebeat runs` shows."""

    def end_of(self, command: list[str]) -> int:
        """How the shell ended; it is killed when there are no more codes."""
        (self.folder / "codes").write_text("\n".join(map(str, self.codes)) + "\n")
        shown = f'echo \'{{"state": "{self.open_run}"}}\'' if self.open_run else ":"
        respond = 'code=$(head -n 1 codes); [ -n "$code" ] || kill -9 $PPID; sed -i 1d codes; exit $code'
        self._program("scorebeat", f'echo "$*" >> calls\n[ "$1" != {self.first} ] || {{ {respond}; }}\n{shown}')
        self._program("sleep", 'echo "$1" >> slept')
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin", "JOB_NAME": "iris-7"}
        done = subprocess.run(command, cwd=self.folder, env=environment, check=False, timeout=20, capture_output=True)
        return done.returncode

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text("utf-8").splitlines() if file.exists() else []

    def _program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.folder / name).chmod(0o755)


@pytest.mark.parametrize("which", ENQUEUES, ids="-".join)
def test_a_request_that_may_succeed_later_is_repeated_after_a_while(which: tuple[str, str], tmp_path: Path) -> None:
    stub = Stub(tmp_path, "enqueue", (2, 2, 0))

    assert stub.end_of(SHELLS[which]) == 0
    assert len(stub.lines("slept")) == 2
    assert all(int(seconds) in LATER for seconds in stub.lines("slept"))


@pytest.mark.parametrize("code", [1, 137])
@pytest.mark.parametrize("which", ENQUEUES, ids="-".join)
def test_other_failures_are_reported_to_kubernetes(which: tuple[str, str], code: int, tmp_path: Path) -> None:
    stub = Stub(tmp_path, "enqueue", (2, code))

    assert stub.end_of(SHELLS[which]) == code


@pytest.mark.parametrize(("state", "calls"), [("planning", 1), ("running", 1), ("succeeded", 2)])
def test_workers_begin_as_soon_as_a_run_is_open(state: str, calls: int, tmp_path: Path) -> None:
    stub = Stub(tmp_path, "enqueue", (2, 0), open_run=state)

    assert stub.end_of(SHELLS["iris-workers", "enqueue"]) == 0
    assert len([line for line in stub.lines("calls") if line.startswith("enqueue")]) == calls


def test_control_begins_when_the_ledger_responds(tmp_path: Path) -> None:
    stub = Stub(tmp_path, "runs", (2, 2, 0))

    assert stub.end_of(SHELLS["iris-run", "control"]) == 0
    assert stub.lines("calls") == ["runs --limit 1"] * 3 + ["worker --control"]
    assert all(int(seconds) in LATER for seconds in stub.lines("slept"))


def test_the_pages_words_on_both_jobs_are_true() -> None:
    run, workers = (
        named(SHAPE, "CronJob", name)["spec"]["jobTemplate"]["spec"] for name in ("iris-run", "iris-workers")
    )

    assert workers["parallelism"] == 2
    assert (run["backoffLimit"], workers["backoffLimit"]) == (10, 20)
    assert run["activeDeadlineSeconds"] == workers["activeDeadlineSeconds"] == 6 * 3600
    assert "--burst" in workers["template"]["spec"]["containers"][0]["command"]


@pytest.mark.parametrize(("role", "options"), [("", []), ("scorebeat_run", ["--run-role", "scorebeat_run"])])
def test_the_role_that_runs_is_named_to_migrate_where_there_is_one(
    role: str, options: list[str], tmp_path: Path
) -> None:
    (migrate,) = (pod.containers[0] for pod in ours(shape("base")) if pod.owner == "migrate")

    assert calls(migrate, tmp_path, RUN_ROLE=role) == [["scorebeat", "migrate", *options]]
