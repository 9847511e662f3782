"""Which device a worker gets: found without CUDA, and refused with what there is instead."""

import os
from pathlib import Path

import pytest

from scorebeat.core.errors import UsageError
from scorebeat.worker.lifecycle.devices import device, gpus
from scorebeat.worker.lifecycle.devices.device import Device
from tests.support.gpus import MODEL, pretend

MIG = """GPU 0: NVIDIA H200 (UUID: GPU-1111)
  MIG 3g.71gb     Device  0: (UUID: MIG-aaaa)
  MIG 1g.18gb     Device  1: (UUID: MIG-bbbb)
GPU 1: NVIDIA A10 (UUID: GPU-2222)
"""


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No GPU of this machine is seen, and no variable of this environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "PROC", tmp_path / "none")
    for variable in (device.VISIBLE, device.ORDER, "_SCOREBEAT_DEVICE", "_SCOREBEAT_DEVICE_MODEL"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{pretend(tmp_path, 2)['PATH']}:/usr/bin:/bin")


@pytest.mark.usefixtures("two")
def test_a_number_is_that_of_nvidia_smi() -> None:
    assert device.find("cuda:1") == Device("cuda:1", MODEL, "1")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("granted", "name", "visible"),
    [
        ("1", "cuda:0", "1"),
        ("1,0", "cuda:1", "0"),
        (" 1 , 0", "cuda:0", "1"),
        ("GPU-1aaa-1bbb", "cuda:0", "GPU-1aaa-1bbb"),
        ("GPU-1aaa,GPU-0aaa", "cuda:1", "GPU-0aaa"),
    ],
)
def test_a_number_counts_the_gpus_that_the_environment_grants(granted: str, name: str, visible: str) -> None:
    assert device.find(name, {device.VISIBLE: granted}) == Device(name, MODEL, visible)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("cuda:7", {}, "there are cuda:0 (NVIDIA Pretended 9), cuda:1 (NVIDIA Pretended 9)"),
        ("cuda:1", {device.VISIBLE: "1"}, "CUDA_VISIBLE_DEVICES=1 leaves cuda:0 (1)"),
        ("cuda:0", {device.VISIBLE: ""}, "CUDA_VISIBLE_DEVICES= leaves no GPU"),
        ("cuda:1", {device.VISIBLE: "0,-1,1"}, "leaves cuda:0 (0)"),
        ("cuda:0", {device.VISIBLE: "5"}, "names 5, which is not here; there are 0 (NVIDIA Pretended 9, GPU-0aaa"),
        ("cuda:0", {device.VISIBLE: "GPU-ffff"}, "names GPU-ffff, which is not here"),
        ("cuda", {}, "expected cpu, or cuda:N such as cuda:0"),
        ("cuda:-1", {}, "expected cpu, or cuda:N"),
        ("CPU", {}, "expected cpu, or cuda:N"),
        ("", {}, "expected cpu, or cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    name: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        device.find(name, environment)

    assert message in str(caught.value)


def test_a_machine_without_a_gpu_is_recognised_and_the_way_out_is_named() -> None:
    with pytest.raises(UsageError, match=r"no NVIDIA GPU was found here.* set CUDA_VISIBLE_DEVICES to its number"):
        device.find("cuda:0", {})


def test_where_nothing_lists_gpus_the_environment_is_believed() -> None:
    assert device.find("cuda:1", {device.VISIBLE: "2,3"}) == Device("cuda:1", device.UNKNOWN_GPU, "3")


def test_a_container_without_nvidia_smi_queries_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address, model in (("0000:17:00.0", "NVIDIA A10"), ("0000:9a:00.0", "NVIDIA H200")):
        folder = tmp_path / "gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ: 1\nGPU UUID: \t GPU-{address[5:7]}\n")
    monkeypatch.setattr(gpus, "PROC", tmp_path / "gpus")

    assert device.find("cuda:1", {}) == Device("cuda:1", "NVIDIA H200", "1")


def test_a_slice_of_a_gpu_is_a_device_of_its_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "installed", lambda: gpus.read_listing(MIG))

    assert device.find("cuda:0", {device.VISIBLE: "MIG-bbbb"}).model == "NVIDIA H200 MIG 1g.18gb"
    assert device.find("cuda:1", {}).model == "NVIDIA A10"


@pytest.mark.usefixtures("two")
def test_an_entered_device_is_current_and_keeps_an_order_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device.find("cuda:1")

    found.enter()

    assert device.current() == found
    assert os.environ[device.ORDER] == "PCI_BUS_ID"
    monkeypatch.setenv(device.ORDER, "FASTEST_FIRST")
    found.enter()
    assert os.environ[device.ORDER] == "FASTEST_FIRST"


def test_a_worker_on_the_cpu_sees_no_gpu() -> None:
    device.find("cpu", {device.VISIBLE: "0"}).enter()

    assert os.environ[device.VISIBLE] == ""
    assert (device.current().kind, device.current().queue) == ("cpu", "cpu")


def test_a_process_without_a_device_option_is_on_the_cpu() -> None:
    assert device.current() == Device("cpu")


@pytest.mark.parametrize(
    ("devices", "kind"), [(("cpu",), "cpu"), (("cpu", "cuda"), "cuda"), (("cuda",), "cuda"), ((), "cpu")]
)
def test_a_model_goes_where_it_can(devices: tuple[str, ...], kind: str) -> None:
    assert Device("cuda:0", MODEL, "0").for_model(devices).kind == kind
