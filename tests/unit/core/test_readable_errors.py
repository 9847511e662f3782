"""The errors of failed attempts that the worker's parent, and Flower, can read."""

import pickle

import adbc_driver_manager
import pytest
from sqlalchemy.exc import OperationalError

from scorebeat.core.errors import LONGEST, ModelError
from scorebeat.worker.scoring.recover import BatchFailed, readable_errors


class Own(Exception):
    """A model's own, of a module that only its process has; it cannot be unpacked."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


DRIVERS = adbc_driver_manager.OperationalError("connection lost", status_code=adbc_driver_manager.AdbcStatusCode.IO)
UNKNOWN: dict[str, tuple[Exception, str]] = {
    "a model's own": (Own("this", "that"), "Own: this and that"),
    "the control plane's driver": (OperationalError("SELECT 1", {}, Exception("gone")), "OperationalError: "),
    "the data driver": (DRIVERS, "OperationalError: connection lost"),
}


@pytest.mark.parametrize("which", UNKNOWN)
def test_an_error_that_only_its_process_knows_is_raised_with_its_text(which: str) -> None:
    error, words = UNKNOWN[which]

    with pytest.raises(BatchFailed, match=words) as raised, readable_errors():
        raise error

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301 -- as billiard does it
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [ModelError("no"), ValueError("bad value"), MemoryError()])
def test_an_error_of_a_known_class_is_raised_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, readable_errors():
        raise error

    assert raised.value is error


def test_a_long_message_is_cut_and_its_traceback_which_repeats_it_is_left_out() -> None:
    with pytest.raises(BatchFailed, match=r"^ValueError: no{1000}") as raised, readable_errors():
        raise ValueError("n" + "o" * 100_000)

    assert len(str(raised.value)) <= LONGEST
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


class Unprintable(Exception):
    __cause__ = property(lambda _: 1 / 0)


def test_an_error_that_cannot_be_printed_is_raised_without_its_traceback() -> None:
    with pytest.raises(BatchFailed, match="Unprintable: odd") as raised, readable_errors():
        raise Unprintable("odd")

    assert raised.value.__cause__ is None


@pytest.mark.parametrize("before", [KeyError("c" * 1_000_000), ValueError("postgresql://ann:s3cr3t@db/app")])
def test_an_earlier_error_is_left_out_if_it_is_long_or_secret(before: Exception) -> None:
    with pytest.raises(BatchFailed, match=r"^ValueError: short$") as raised, readable_errors():
        raise ValueError("short") from before

    assert raised.value.__cause__ is None
