"""A row for which a Python class returns what is no prediction, or raises what is no Exception, is found alone."""

import threading
from collections.abc import Callable
from textwrap import indent

import pyarrow as pa
import pytest

from scorebeat.core.errors import EscapedError, kind, one_line, text
from scorebeat.db.ledger.failures import quarantine
from scorebeat.models.artifact import Artifact
from scorebeat.models.formats import registry
from scorebeat.models.scoring.containment import contained
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.worker.scoring import isolate
from scorebeat.worker.scoring.recover import describe
from scorebeat.worker.scoring.refused_rows.bad_rows import bad_row
from tests.contract.python_files import Write

CLASS = """
import asyncio, sys

class Mute(Exception):
    def __str__(self):
        raise TypeError
    __repr__ = __str__

class C:
    inputs = {"x": "int64"}
    outputs = {"word": "string", "twice": "float64"}

    def __init__(self, files, device):
        pass

    def predict(self, rows):
        x = rows["x"].to_pylist()
        word, twice = [f"w{one}" for one in x], [2.0 * one for one in x]
        if 77 in x:
            at = x.index(77)
"""
ONE_ROW = {
    "half of a character": ('word[at] = "caf\\ud800"', "NonsenseError"),
    "bytes": ('word[at] = b"\\xff"', "OutputError"),
    "a number for a word": ("word[at] = 7", "OutputError"),
    "a word for a number": ('twice[at] = "many"', "OutputError"),
    "one value too few": ("word.pop(), twice.pop()", "OutputError"),
    "one value too few in a column": ("twice.pop()", "OutputError"),
    "one value too many": ('word.append("more"), twice.append(0.0)', "OutputError"),
    "no column": ("twice = None; return {'word': word}", "OutputError"),
    "nothing": ("return None", "OutputError"),
    "an error without words": ("raise Mute", "Mute"),
    "a cancelled task": ("raise asyncio.CancelledError", "CancelledError"),
    "an exit": ("sys.exit(3)", "SystemExit"),
    "a generator's end": ("raise GeneratorExit", "GeneratorExit"),
}


@pytest.mark.parametrize("case", ONE_ROW)
def test_an_output_that_is_no_prediction_costs_only_its_row(
    write: Write, add: Callable[..., Artifact], case: str
) -> None:
    line, error = ONE_ROW[case]
    write("bad.py", CLASS + indent(line, " " * 12) + indent('\nreturn {"word": word, "twice": twice}', " " * 8))
    rows = pa.record_batch({"x": pa.array(range(500), pa.int64())})

    scored = isolate.predict_isolating_failures(MicroBatches(registry.load(add("bad:C"))).predict, rows)

    (failed,) = scored.failed
    row = bad_row(quarantine.row_id(rows, failed.index), failed.error)
    assert (row.key, row.error_type) == (("77",), error)
    assert describe(failed.error).startswith(error)
    assert "bad.py" in str(row.traceback) or error in ("OutputError", "NonsenseError")
    assert scored.predictions["twice"].to_pylist() == [2.0 * x for x in range(500) if x != 77]


def test_an_error_with_an_unreadable_message_is_reported_as_such() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert text(Mute()) == "(its message cannot be read: str() raised SystemExit)"
    assert one_line(Mute()) == text(Mute())
    assert describe(Mute()) == f"Mute: {text(Mute())}"


def test_ctrl_c_in_the_main_thread_is_the_persons_and_elsewhere_the_models() -> None:
    found: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with contained():
                raise KeyboardInterrupt
        except BaseException as error:  # noqa: BLE001 -- which it is, is the question
            found.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert isinstance(found[0], EscapedError)
    assert kind(found[0]) == "KeyboardInterrupt"
    with pytest.raises(KeyboardInterrupt), contained():
        raise KeyboardInterrupt


def test_the_pools_own_end_of_a_process_passes() -> None:
    from billiard import common  # noqa: PLC0415 -- of the worker

    with pytest.raises(SystemExit), contained():
        exec(compile("raise SystemExit(143)", "common.py", "exec"), {"__name__": common.__name__})  # noqa: S102 -- a frame of that module
