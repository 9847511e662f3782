"""The device that a worker scores on: what its processes see of it, found without touching CUDA."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scorebeat.core.errors import UsageError
from scorebeat.worker.lifecycle.gpus import Gpu, installed

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
CPU = "cpu"
GPU_PROCESSES = 2
"""One scores while the other fetches and commits."""
UNKNOWN_GPU = "cuda"
"""Model of a GPU that nothing here can name."""

_NAME = "_SCOREBEAT_DEVICE"
_MODEL = "_SCOREBEAT_DEVICE_MODEL"
"""Set by a worker's parent, inherited by its children, forked or spawned."""


@dataclass(frozen=True)
class Device:
    """Where a worker scores."""

    name: str
    """`cpu` or `cuda:N`, as it was asked for."""
    model: str = CPU
    """What it is, such as `NVIDIA H200`: what fits one fits another of that model."""
    visible: str = ""
    """The one GPU that its processes see, as CUDA reads it; empty: none."""

    def __str__(self) -> str:
        """As the ledger has it: `cpu`, or `cuda:1 (NVIDIA H200)`."""
        return f"{self.name} ({self.model})" if self.is_gpu else self.name

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`, as formats know it."""
        return self.name.partition(":")[0]

    @property
    def is_gpu(self) -> bool:
        return self.kind != CPU

    @property
    def queue(self) -> str:
        """The queue that it serves unless told."""
        return "gpu" if self.is_gpu else "cpu"

    def enter(self) -> None:
        """This process and those that it starts belong to the device; to be called before CUDA is touched."""
        os.environ[_NAME], os.environ[_MODEL] = self.name, self.model
        os.environ[VISIBLE] = self.visible
        os.environ.setdefault(ORDER, "PCI_BUS_ID")  # N counts as nvidia-smi does, not by speed

    def for_model(self, devices: tuple[str, ...]) -> "Device":
        """Where a model goes that knows these kinds of device: here, or to the CPU."""
        return self if self.kind in devices else Device(CPU)


def current() -> Device:
    """The device that this process belongs to; the CPU unless its worker was told."""
    return Device(os.environ.get(_NAME, CPU), os.environ.get(_MODEL, CPU), os.environ.get(VISIBLE, ""))


def find(name: str, environment: Mapping[str, str] = os.environ) -> Device:
    """The device `cpu` or `cuda:N`; N counts the GPUs that CUDA_VISIBLE_DEVICES leaves, or all.

    Raises UsageError when the name is none, or there is no such GPU.
    """
    if name == CPU:
        return Device(CPU)
    number = re.fullmatch(r"cuda:(\d{1,4})", name, re.ASCII)
    if number is None:
        raise UsageError(f"--device {name} is unknown; expected cpu, or cuda:N such as cuda:0")
    gpus, given = installed(), environment.get(VISIBLE)
    if given is not None:
        return _of_given(name, int(number[1]), given, gpus)
    if not gpus:
        raise UsageError(
            f"--device {name}: no NVIDIA GPU was found here: nvidia-smi is not there or lists none, and there is no "
            f"/proc/driver/nvidia/gpus. Where a GPU is hidden from both, as in some containers, set {VISIBLE} to its "
            "number; to score on the CPU use --device cpu"
        )
    if int(number[1]) >= len(gpus):
        raise UsageError(f"--device {name}: there is no such GPU here; there are {_listed([g.model for g in gpus])}")
    found = gpus[int(number[1])]
    return Device(name, found.model, number[1])


def _of_given(name: str, number: int, given: str, gpus: tuple[Gpu, ...]) -> Device:
    """One of the GPUs that the environment grants."""
    granted = _granted(given)
    if number >= len(granted):
        left = f"leaves {_listed(granted)}" if granted else "leaves no GPU"
        raise UsageError(f"--device {name}: there is no such GPU for this worker: {VISIBLE}={given} {left}")
    wanted = granted[number]
    found = next((gpu for gpu in gpus if gpu.answers(wanted)), None)
    if gpus and found is None:
        raise UsageError(
            f"--device {name}: {VISIBLE}={given} names {wanted}, which is not here; there are "
            f"{', '.join(f'{gpu.number} ({gpu.model}, {gpu.uuid})' for gpu in gpus)}"
        )
    return Device(name, found.model_of(wanted) if found else UNKNOWN_GPU, wanted)


def _granted(given: str) -> list[str]:
    """As CUDA reads the variable: what stands behind an empty or a negative entry does not count."""
    granted: list[str] = []
    for entry in map(str.strip, given.split(",")):
        if not entry or entry.startswith("-") or entry == "NoDevFiles":
            break
        granted.append(entry)
    return granted


def _listed(names: list[str]) -> str:
    return ", ".join(f"cuda:{i} ({name})" for i, name in enumerate(names))
