"""The machine's NVIDIA GPUs, read from the driver's own tools: a call of CUDA would break each process forked later."""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc/driver/nvidia/gpus")
PATIENCE = 60.0
"""Seconds; a driver needs long to wake up eight GPUs."""

_GPU = re.compile(r"GPU (\d+): (.+?) \(UUID: (GPU-[^)\s]+)\)", re.ASCII)
_SLICE = re.compile(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (MIG-[^)\s]+)\)", re.ASCII)


@dataclass(frozen=True)
class Gpu:
    """A GPU as `nvidia-smi -L` lists it."""

    number: int
    model: str
    uuid: str
    slices: dict[str, str] = field(default_factory=dict)
    """Its MIG devices: UUID to profile."""

    def matches(self, name: str) -> bool:
        """Whether CUDA means this GPU, or a slice of it, by a number or the beginning of a UUID."""
        if name.isdecimal():
            return int(name) == self.number
        return any(uuid.startswith(name) for uuid in (self.uuid, *self.slices))

    def model_of(self, name: str) -> str:
        """Its model, with the profile of a slice: a slice has less memory than the whole."""
        profile = next((profile for uuid, profile in self.slices.items() if uuid.startswith(name)), None)
        return f"{self.model} {profile}" if profile else self.model


def installed() -> tuple[Gpu, ...]:
    """The GPUs that this machine, or container, has, as nvidia-smi counts them; empty if none is found."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 -- its folder differs between machines; PATH has it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return _from_driver()
    return read_listing(done.stdout) or _from_driver()


def read_listing(listing: str) -> tuple[Gpu, ...]:
    """The GPUs of `nvidia-smi -L`."""
    gpus: list[Gpu] = []
    for line in listing.splitlines():
        if whole := _GPU.match(line):
            gpus.append(Gpu(int(whole[1]), whole[2], whole[3]))
        elif gpus and (part := _SLICE.match(line)):
            gpus[-1].slices[part[2]] = part[1]
    return tuple(gpus)


def _from_driver() -> tuple[Gpu, ...]:
    """For containers without nvidia-smi: a folder a GPU, named by its position on the bus, describes it."""
    gpus: list[Gpu] = []
    for number, folder in enumerate(sorted(PROC.glob("*"))):
        try:
            lines = (folder / "information").read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        gpus.append(Gpu(number, fields.get("Model", "NVIDIA GPU"), fields.get("GPU UUID", "")))
    return tuple(gpus)
