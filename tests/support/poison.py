"""A model format for tests, whose models misbehave for chosen rows; a worker gets it by `-I tests.support.poison`.

The file is JSON: {"raise": [...], "exit": [...], "segfault": [...], "hang": [...], "nan": [...], "seconds_a_row": 0},
each list the values of `x` for which the model does so, and so do "mute" (an error without a readable message),
"cancelled" (asyncio.CancelledError), "leave" (SystemExit) and "leak" (an error with secrets in its text). "stop" stops
the process as SIGSTOP does, "raise long" has an error with a long message, "slow words" one that takes for ever to
print, "hang deaf" hangs and hears no signal, "close" closes its descriptors, "replace" puts others at their numbers,
"exit 1" ends it with the exit code of a watchdog. For every other row `value` is 2 x. With "calls", a path, each call
leaves a line there: its time, and the values of `x`. With "out_of_memory_above", so many rows fit at once; "out of
memory" lists rows that never fit. With "first_pause", the first call takes so many seconds longer. With "placed", a
path, the process that loads it leaves a line there: where it is and what it sees.
"""

import asyncio
import ctypes
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import DeviceMemoryError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Input, Model, Signature
from scorebeat.models.formats import registry
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known

NAME = "poison"
DEVICES = ("cpu", "cuda")
READS = frozenset({"inputs", "outputs", "classes"})
take = copy_file
SUFFIX = ".poison"
SIGNATURE = Signature((Input("x", pa.float64()),), pa.schema([("value", pa.float64())]))


def inspect(path: Path, options: AddOptions) -> Described:
    del path, options
    return Described(SIGNATURE)


def known_values(model: Model, signature: Signature) -> Known:
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> None:
    del artifact, own


def load(artifact: Artifact, device: str) -> "Poison":
    poison = json.loads(artifact.path.read_text())
    if "placed" in poison:
        _leave(poison["placed"], {"device": device, "pid": os.getpid(), "environ": dict(os.environ)})
    return Poison(poison, artifact.signature.outputs)


def _leave(path: str, content: Any) -> None:
    with Path(path).open("a") as file:
        file.write(json.dumps(content) + "\n")


class MuteError(Exception):
    """An error whose message is made when it is read, as some libraries have it."""

    def __str__(self) -> str:
        raise AttributeError("no message")

    __repr__ = __str__


class SlowWordsError(Exception):
    """An error whose message takes longer than anybody waits."""

    def __str__(self) -> str:
        time.sleep(100_000)
        return ""


RAISED: dict[str, Callable[[], BaseException]] = {
    "raise": lambda: ValueError("the model does not like a row"),
    "mute": MuteError,
    "cancelled": lambda: asyncio.CancelledError("the model's own task"),
    "leave": lambda: SystemExit("the model wants no more"),
    "slow words": SlowWordsError,
    "raise long": lambda: ValueError("the model dislikes a row " * 10_000),
    "leak": lambda: ValueError(
        "no answer from postgresql://ann:s3cr3t@db/app with api_key=s3cr3t and Bearer s3cr3ts3cr3t"
    ),
}


class Poison:
    """Doubles `x`, or does the harm of its file."""

    def __init__(self, poison: dict[str, Any], outputs: pa.Schema) -> None:
        self.outputs = outputs
        self._poison = {kind: np.array(values, float) for kind, values in poison.items() if isinstance(values, list)}
        self._calls = poison.get("calls")
        self._fits = int(poison.get("out_of_memory_above", 1_000_000))
        self._pause = float(poison.get("seconds_a_row", 0))
        self._first_pause = float(poison.get("first_pause", 0))

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        x = rows.column(0).to_numpy(zero_copy_only=False)
        if self._calls:
            _leave(self._calls, [time.time(), x.tolist()])
        self._require_memory(x)
        time.sleep(self._first_pause)
        self._first_pause = 0.0
        if error := self._error(x):
            raise error
        self._harm(x)
        self._take_time(x)
        value = np.where(np.isin(x, self._poison.get("nan", [])), np.nan, 2 * x)
        value = np.where(np.isin(x, self._poison.get("infinity", [])), np.inf, value)
        if self._holds("wrong length", x):
            value = value[:-1]
        if self._holds("wrong columns", x):
            return pa.RecordBatch.from_pydict({"other": value})
        if self._holds("wrong types", x):
            return pa.RecordBatch.from_pydict({"value": value.astype(str)})
        return pa.RecordBatch.from_arrays([pa.array(value)], schema=self.outputs)

    def _harm(self, x: np.ndarray) -> None:
        """The process, not the output."""
        if self._holds("close", x):
            os.closerange(3, 1000)
        if self._holds("replace", x):
            for number in range(3, 100):
                os.dup2(0, number)
        if self._holds("stop", x):
            os.kill(os.getpid(), signal.SIGSTOP)
        if self._holds("segfault", x):
            ctypes.string_at(0)
        if self._holds("hang", x):
            threading.Event().wait()
        if self._holds("hang holding the lock", x):
            ctypes.PyDLL(None).pause()
        if self._holds("hang deaf", x):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            threading.Event().wait()

    def _take_time(self, x: np.ndarray) -> None:
        if self._pause:  # a sleep of no time yields the core, for as long as others like
            time.sleep(self._pause * len(x))

    def _error(self, x: np.ndarray) -> BaseException | None:
        if self._holds("exit", x):
            os._exit(3)
        if self._holds("exit 1", x):
            os._exit(1)
        return next((error() for kind, error in RAISED.items() if self._holds(kind, x)), None)

    def _require_memory(self, x: np.ndarray) -> None:
        if len(x) > self._fits or self._holds("out of memory", x):
            raise DeviceMemoryError(f"{len(x)} rows do not fit")

    def _holds(self, kind: str, x: np.ndarray) -> bool:
        return bool(np.isin(self._poison.get(kind, np.array([])), x).any())


registry.register(SUFFIX, __name__)
