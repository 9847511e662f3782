"""Pods end at SIGTERM, also while they start; a first process would ignore a signal without a handler."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.kubelet import Node
from tests.deploy.manifests import SHAPES, named, ours, shape
from tests.support.fixtures import wait_for

FIRST = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
"""Makes what follows the first process of a space of its own, as an engine makes a container's."""
PAUSE = ("sh", "-c", '"$@" & wait $!', "pause")
"""The first process of a pod whose containers share one space; it waits, and what follows is another."""
TERMINATED = 128 + signal.SIGTERM
ALL = {
    (pod.owner, container["name"]): (pod.spec.get("shareProcessNamespace"), container)
    for name in SHAPES
    for pod in ours(shape(name))
    for container in pod.containers
}


def can_unshare() -> bool:
    try:
        return subprocess.run([*FIRST, "true"], check=False, capture_output=True, timeout=10).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """No server is there, so that what waits for one goes on waiting."""
    used = {key: "nothing-there" for name in SHAPES for key in _keys(name)}
    urls = {"SCOREBEAT_DATABASE_URL": "postgresql://a@127.0.0.1:1/a", "SCOREBEAT_BROKER_URL": "redis://127.0.0.1:1/0"}
    made = Node(tmp_path, used | urls, {**named(shape("base"), "ConfigMap", "scorebeat-settings")["data"]})
    yield made
    made.end()


@pytest.mark.parametrize("name", SHAPES)
def test_no_program_of_ours_is_the_first_process_of_its_space(name: str) -> None:
    assert [pod.owner for pod in ours(shape(name)) if pod.spec.get("shareProcessNamespace") is not True] == []


@pytest.mark.skipif(not can_unshare(), reason="the kernel refuses this user a PID namespace")
@pytest.mark.parametrize("which", ALL, ids="-".join)
def test_a_container_that_has_just_started_ends_by_a_signal(which: tuple[str, str], node: Node) -> None:
    shares, container = ALL[which]
    command = [*FIRST, *(PAUSE if shares else ()), *container["command"]]
    process = node.start({**container, "command": command}, "log", "iris-run-1")
    first = wait_for(lambda: _child(process.pid))
    program = wait_for(lambda: _child(first)) if shares else first
    wait_for(lambda: (title := _title(program)) and not any(word in title for word in (FIRST[0], PAUSE[-1])))

    os.kill(program, signal.SIGTERM)

    assert process.wait(20) == TERMINATED, node.logs()


def _title(pid: int) -> str:
    """Program and arguments, as everybody on the machine may read them."""
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8")


def _child(pid: int) -> int:
    """0 while there is none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return int(children[0]) if children else 0


def _keys(name: str) -> set[str]:
    variables: list[dict[str, Any]] = [v for pod in ours(shape(name)) for c in pod.containers for v in c["env"]]
    return {v["valueFrom"]["secretKeyRef"]["key"] for v in variables if "secretKeyRef" in v.get("valueFrom", {})}
