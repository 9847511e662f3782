"""The device that a worker scores on, and what its processes see of it; found without a call of CUDA."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scorebeat.core.errors import UsageError
from scorebeat.worker.lifecycle.devices.gpus import Gpu, installed

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
CPU = "cpu"
GPU_PROCESSES = 2
"""One scores while the other fetches and commits."""
UNKNOWN_GPU = "cuda"
"""The model of a GPU that is unknown here."""

_NAME = "_SCOREBEAT_DEVICE"
_MODEL = "_SCOREBEAT_DEVICE_MODEL"
"""Set by a worker's parent, inherited by its children, forked or spawned."""


@dataclass(frozen=True)
class Device:
    """Where a worker scores."""

    name: str
    """`cpu` or `cuda:N`, as the option has it."""
    model: str = CPU
    """Its hardware model, such as `NVIDIA H200`: rows that fit one device fit every other of that model."""
    visible: str = ""
    """The one GPU that its processes see, as CUDA reads it; empty if none."""

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
        """The queue that it serves by default."""
        return "gpu" if self.is_gpu else "cpu"

    def enter(self) -> None:
        """This process and those that it starts belong to the device; called before any call of CUDA."""
        os.environ[_NAME], os.environ[_MODEL] = self.name, self.model
        os.environ[VISIBLE] = self.visible
        os.environ.setdefault(ORDER, "PCI_BUS_ID")  # N counts as nvidia-smi does, not by speed

    def for_model(self, devices: tuple[str, ...]) -> "Device":
        """This device if the model supports its kind, else the CPU."""
        return self if self.kind in devices else Device(CPU)


def current() -> Device:
    """The device that this process belongs to; by default the CPU."""
    return Device(os.environ.get(_NAME, CPU), os.environ.get(_MODEL, CPU), os.environ.get(VISIBLE, ""))


def find(name: str, environment: Mapping[str, str] = os.environ) -> Device:
    """The device `cpu` or `cuda:N`; N counts the GPUs that CUDA_VISIBLE_DEVICES leaves, or all.

    Raises UsageError if the name is no device, or there is no such GPU.
    """
    if name == CPU:
        return Device(CPU)
    number = re.fullmatch(r"cuda:(\d{1,4})", name, re.ASCII)
    if number is None:
        raise UsageError(f"--device {name} is unknown; expected cpu, or cuda:N such as cuda:0")
    gpus, visible = installed(), environment.get(VISIBLE)
    if visible is not None:
        return _among_visible(name, int(number[1]), visible, gpus)
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


def _among_visible(name: str, number: int, visible: str, gpus: tuple[Gpu, ...]) -> Device:
    """One of the GPUs that CUDA_VISIBLE_DEVICES leaves."""
    entries: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        if not entry or entry.startswith("-") or entry == "NoDevFiles":
            break  # CUDA, too, reads no entry after such a one
        entries.append(entry)
    if number >= len(entries):
        left = f"leaves {_listed(entries)}" if entries else "leaves no GPU"
        raise UsageError(f"--device {name}: there is no such GPU for this worker: {VISIBLE}={visible} {left}")
    wanted = entries[number]
    found = next((gpu for gpu in gpus if gpu.matches(wanted)), None)
    if gpus and found is None:
        raise UsageError(
            f"--device {name}: {VISIBLE}={visible} names {wanted}, which is not here; there are "
            f"{', '.join(f'{gpu.number} ({gpu.model}, {gpu.uuid})' for gpu in gpus)}"
        )
    return Device(name, found.model_of(wanted) if found else UNKNOWN_GPU, wanted)


def _listed(names: list[str]) -> str:
    return ", ".join(f"cuda:{i} ({name})" for i, name in enumerate(names))
