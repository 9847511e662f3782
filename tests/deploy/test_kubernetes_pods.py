"""The pods of deploy/kubernetes: commands that exist, few rights, time to finish, declared secrets."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import click
import pytest
from celery.bin.celery import celery
from flower.options import options as flower_options

from scorebeat.broker.app import make_app
from scorebeat.core.settings import Settings
from scorebeat.ops.cli.app import cli
from scorebeat.ops.local.up import DRAIN
from tests.deploy.manifests import PAGE, SHAPES, calls, named, of_kind, option, ours, pods, secrets_used, shape
from tests.deploy.patience import SERVED_TO_THE_END
from tests.docs.pages import Page

each_shape = pytest.mark.parametrize("name", SHAPES)
MINUTE = "29714179"
SCRATCH = "/tmp"  # noqa: S108 -- the container's own
SOFT_SHUTDOWN = make_app(Settings(_env_file=None, broker_url="redis://broker"), str).conf.worker_soft_shutdown_timeout
UNTIL_NO_REQUESTS = 5
"""Seconds in which every machine of a cluster has learnt that a pod is on its way out."""
HIDDEN = re.compile("PASSWORD|TOKEN|SECRET|URL|AUTH")


@each_shape
def test_every_command_is_one_that_there_is(name: str, tmp_path: Path) -> None:
    for pod in ours(shape(name)):
        for container in pod.containers:
            for command in calls(container, tmp_path, JOB_NAME=f"{pod.owner}-{MINUTE}", RUN_ROLE="scorebeat_run"):
                _require_known(command)
            probe = container.get("readinessProbe", {}).get("exec")
            if probe is not None:
                _require_known(probe["command"])


def test_a_misspelt_command_or_option_is_noticed() -> None:
    for wrong in (
        ["scorebeat", "worker", "--device", "cpu", "--bursts"],
        ["scorebeat", "enqueu", "iris"],
        ["celery", "-A", "scorebeat.worker", "beat", "--levels", "INFO"],
        ["celery", "-A", "scorebeat.worker", "flower", "--adress=0.0.0.0"],
    ):
        with pytest.raises((click.UsageError, AssertionError)):
            _require_known(wrong)


@each_shape
def test_a_pod_has_few_rights_and_bounds(name: str) -> None:
    for pod in pods(shape(name)):
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@each_shape
def test_no_program_of_ours_is_the_first_process_of_its_space(name: str) -> None:
    """A first process ignores each signal that it has no handler for, so it could not be ended while it starts."""
    assert [pod.owner for pod in ours(shape(name)) if pod.spec.get("shareProcessNamespace") is not True] == []


@each_shape
def test_a_pod_of_ours_is_as_the_image_is_made_and_writes_to_its_own_folder_alone(name: str) -> None:
    for pod in ours(shape(name)):
        made = pod.spec["securityContext"]
        assert (made["runAsUser"], made["runAsGroup"], made["fsGroup"]) == (10001, 10001, 10001), pod.owner
        for container in pod.containers:
            writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
            assert writable == [SCRATCH] + ["/models"] * (container["name"] == "example")
            assert container["workingDir"] == SCRATCH


def test_both_jobs_of_a_burst_start_at_one_minute_never_twice_with_one_key(tmp_path: Path) -> None:
    burst = shape("overlays/burst")
    run, workers = (next(pod for pod in pods(burst) if pod.owner == name) for name in ("iris-run", "iris-workers"))
    crons = [named(burst, "CronJob", pod.owner)["spec"] for pod in (run, workers)]
    typed = [
        call
        for pod in (run, workers)
        for container in pod.containers
        for call in calls(container, tmp_path, JOB_NAME=f"{pod.owner}-{MINUTE}")
        if call[1] == "enqueue"
    ]

    assert len({(c["schedule"], c["timeZone"], c["startingDeadlineSeconds"]) for c in crons}) == 1
    assert {c["concurrencyPolicy"] for c in crons} == {"Forbid"}
    assert [call[:3] for call in typed] == [["scorebeat", "enqueue", "iris"]] * 2
    assert {option(call, "--run-key") for call in typed} == {f"iris-{MINUTE}"}
    assert ["--wait" in call for call in typed] == [True, False]
    assert [c["name"] for c in run.containers if c.get("restartPolicy") == "Always"] == ["control", "beat"]
    assert "completions" not in crons[1]["jobTemplate"]["spec"], "one that ends well means that the work is done"


@each_shape
def test_a_worker_has_longer_to_stop_than_it_takes(name: str, tmp_path: Path) -> None:
    for pod in ours(shape(name)):
        grace = pod.spec.get("terminationGracePeriodSeconds", 0)
        for container in pod.containers:
            command = calls(container, tmp_path)[-1]
            if command[:2] == ["scorebeat", "worker"] and "--control" in command:
                assert grace > 2 * DRAIN, f"{pod.owner}: its two workers are stopped one after the other"
            elif command[:2] == ["scorebeat", "worker"]:
                assert {"name": "REMAP_SIGTERM", "value": "SIGQUIT"} in container["env"]
                assert grace >= SOFT_SHUTDOWN + 15, pod.owner
            elif command[:2] == ["scorebeat", "api"]:
                waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
                assert grace > waits + SERVED_TO_THE_END
                assert waits >= UNTIL_NO_REQUESTS


def test_beat_is_one_and_control_and_api_outlive_a_machine() -> None:
    objects = shape("base")
    beat = named(objects, "Deployment", "beat")["spec"]

    assert (beat["replicas"], beat["strategy"]["type"]) == (1, "Recreate")
    assert named(objects, "Deployment", "control")["spec"]["replicas"] == 2
    assert named(objects, "Deployment", "api")["spec"]["replicas"] == 3
    assert named(objects, "PodDisruptionBudget", "api")["spec"]["minAvailable"] == 2


def test_the_api_has_a_liveness_and_a_readiness_probe() -> None:
    (api,) = named(shape("base"), "Deployment", "api")["spec"]["template"]["spec"]["containers"]
    (port,) = api["ports"]

    assert port["containerPort"] == int(option(api["command"], "--port"))
    assert api["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "api"}
    assert api["livenessProbe"]["httpGet"] == {"path": "/health", "port": "api"}, "a database away ends no server"


def test_a_gpu_worker_gets_one_gpu_and_a_worker_a_cpu_for_each_process() -> None:
    for name in SHAPES:
        for pod in ours(shape(name)):
            for container in pod.containers:
                if "--processes" not in container["command"]:
                    continue
                processes = option(container["command"], "--processes")
                resources = container["resources"]
                is_small = (name, pod.owner) == ("overlays/trial", "worker-cpu")
                assert resources["limits" if is_small else "requests"]["cpu"] == processes
                assert resources["limits"].get("nvidia.com/gpu") == ("1" if "cuda:0" in container["command"] else None)


@each_shape
def test_every_secret_that_is_used_is_in_the_example_of_the_page(name: str) -> None:
    assert secrets_used(shape(name)) <= _declared_secrets()


def test_no_unused_secret_is_declared_and_none_has_a_value_in_the_tree() -> None:
    optional = {("scorebeat", "SCOREBEAT_NOTIFY_SECRET")}
    assert _declared_secrets() - optional <= {used for name in SHAPES for used in secrets_used(shape(name))}
    assert not [one for name in SHAPES for one in shape(name) if one["kind"] == "Secret"]
    for name in SHAPES:
        for pod in pods(shape(name)):
            plain = [v["name"] for c in pod.containers for v in c.get("env", ()) if "value" in v]
            assert not [v for v in plain if HIDDEN.search(v)]
        assert not [key for one in of_kind(shape(name), "ConfigMap") for key in one["data"] if HIDDEN.search(key)]


def test_only_the_owners_job_has_the_owners_rights() -> None:
    for name in SHAPES:
        for pod in pods(shape(name)):
            sources = [v["valueFrom"]["secretKeyRef"]["name"] for v in _variables(pod.containers) if _is_secret(v)]
            assert ("scorebeat-owner" in sources) == (pod.owner == "migrate")


def test_the_pages_resources_of_the_base_without_workers_are_true() -> None:
    cpus, mebibytes = 0.0, 0.0
    objects = shape("base")
    for name in ("beat", "control", "api", "flower"):
        spec = named(objects, "Deployment", name)["spec"]
        for container in spec["template"]["spec"]["containers"]:
            requests = container["resources"]["requests"]
            cpus += spec["replicas"] * int(requests["cpu"].removesuffix("m")) / 1000
            mebibytes += spec["replicas"] * int(requests["memory"].removesuffix("Mi"))

    assert f"asks for {cpus:g} CPUs and {mebibytes / 1024:g} GiB" in " ".join(PAGE.read_text("utf-8").split())


def _require_known(command: list[str]) -> None:
    """The real command line takes it. Raises UsageError or AssertionError."""
    program, *arguments = command
    if program == "scorebeat":
        _parse(cli, arguments)
    elif program == "celery":
        assert arguments[:2] == ["-A", "scorebeat.worker"]
        _parse_celery([word for word in arguments[2:] if word != "--quiet"])
    else:
        assert command[:2] == ["python", "-m"]
        assert importlib.util.find_spec(command[2]) is not None


def _parse(group: click.Group, arguments: list[str]) -> None:
    name, *rest = arguments
    found = group.get_command(click.Context(group), name)
    assert found is not None, name
    found.make_context(name, rest)


def _parse_celery(arguments: list[str]) -> None:
    if arguments[0] == "flower":  # its options are Tornado's
        names = [re.fullmatch(r"--([\w-]+)=.+", word) for word in arguments[1:]]
        assert all(name is not None and name[1].replace("-", "_") in flower_options for name in names), arguments
    else:
        found = celery.commands[arguments[0]]
        # not more than parsed: what the options mean is worked out from an application
        found.make_parser(click.Context(found)).parse_args(arguments[1:])


def _declared_secrets() -> set[tuple[str, str]]:
    """Names and keys of the secrets that the page has its reader make."""
    texts = [block.text.replace("\\\n", " ") for block in Page.read(PAGE).blocks]
    made = [line for text in texts for line in text.splitlines() if "create secret generic" in line]
    return {
        (found[1], key)
        for line in made
        if (found := re.search(r"create secret generic ([\w-]+)", line))
        for key in re.findall(r"--from-literal=(\w+)=", line)
    }


def _variables(containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [variable for container in containers for variable in container.get("env", ())]


def _is_secret(variable: dict[str, Any]) -> bool:
    return "secretKeyRef" in variable.get("valueFrom", {})
