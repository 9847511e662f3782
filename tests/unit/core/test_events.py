"""Events: one line each, for people or machines, and never a password."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from scorebeat.core.events import configure_logging, emit

Format = Literal["text", "json"]
FORMATS: list[Format] = ["text", "json"]
URL = "postgresql://ann:s3cr3t@db:5432/app"


@pytest.fixture(autouse=True)
def _restored_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(log_format: Format, level: int = logging.INFO) -> io.StringIO:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()
    configure_logging(log_format, level, stream)
    return stream


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "urllib3.connectionpool", "botocore.auth", "azure.core"])
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_librarys_records_of_its_requests_are_not_written(name: str, log_format: Format) -> None:
    stream = written(log_format)

    logging.getLogger(name).info("HTTP Request: POST https://hooks.example/services/T0/B0/s3cr3t")
    logging.getLogger(name).warning("it is slow")

    assert "s3cr3t" not in stream.getvalue()
    assert "it is slow" in stream.getvalue()


def failure() -> ValueError:
    try:
        raise ValueError(f"no answer from {URL}")
    except ValueError as error:
        return error


def test_an_event_is_one_line_that_a_person_can_read() -> None:
    stream = written("text")

    emit("batch.committed", run=3, batch=17, worker="cpu@host", took=timedelta(seconds=1.5), note="a b", ok=True)

    time, line = stream.getvalue().split(" ", 1)
    datetime.strptime(time, "%H:%M:%S").replace(tzinfo=UTC)
    assert line == 'INFO  batch.committed run=3 batch=17 worker=cpu@host took=1.5 note="a b" ok=true\n'


def test_an_event_is_one_object_that_a_machine_can_read() -> None:
    stream = written("json")

    emit("batch.failed", logging.WARNING, run=3, key=["a", 1], at=datetime(2026, 1, 1, tzinfo=UTC), score=float("nan"))

    record = json.loads(stream.getvalue())
    assert datetime.fromisoformat(record.pop("time")).utcoffset() == timedelta(0)
    assert record == {
        "level": "WARNING",
        "event": "batch.failed",
        "run": 3,
        "key": ["a", 1],
        "at": "2026-01-01T00:00:00+00:00",
        "score": "nan",
    }


def test_a_field_never_replaces_a_key_of_the_log() -> None:
    stream = written("json")

    emit("run.begun", time="noon", message="hello")

    record = json.loads(stream.getvalue())
    assert record["time"] != "noon"
    assert (record["field_time"], record["field_message"]) == ("noon", "hello")


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_password_is_never_written(log_format: Format) -> None:
    stream = written(log_format)

    emit("service.lost", exc=failure(), url=URL, deep={"urls": [URL]}, note=f"tried {URL} twice")
    logging.getLogger("kombu").info("Connected to %s", "redis://:s3cr3t@cache:6379/0")
    logging.getLogger("psycopg2").error(f"dsn: host=db password=s3cr3t user=ann, {URL}", exc_info=failure())

    text = stream.getvalue()
    assert "s3cr3t" not in text
    assert "postgresql://ann:***@db:5432/app" in text
    assert "redis://:***@cache:6379/0" in text


def test_a_traceback_follows_its_line_in_text() -> None:
    stream = written("text")

    emit("batch.failed", logging.ERROR, exc=failure(), batch=17)

    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR batch.failed batch=17")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no answer from postgresql://ann:***@db:5432/app"


def test_a_traceback_is_a_field_in_json() -> None:
    stream = written("json")

    emit("batch.failed", logging.ERROR, exc=failure())

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].startswith("Traceback (most recent call last):\n")


def test_records_of_celery_are_beside_ours() -> None:
    stream = written("text")

    logging.getLogger("celery.worker.consumer").warning("lost %s", "broker")
    logging.getLogger("kombu").debug("unimportant")

    assert stream.getvalue().endswith(" WARN  celery.worker.consumer lost broker\n")
    assert stream.getvalue().count("\n") == 1


def test_records_of_celery_are_beside_ours_in_json() -> None:
    stream = written("json")

    logging.getLogger("celery.worker.consumer").warning("lost %s", "broker")

    record = json.loads(stream.getvalue())
    assert (record["event"], record["logger"], record["message"]) == ("log", "celery.worker.consumer", "lost broker")


def test_no_value_can_forge_a_line_or_colour_the_terminal() -> None:
    stream = written("text")

    emit("row.failed", error="bad\n12:00:00 INFO  run.succeeded", key="\x1b[31mred\u202e", name="a=b")
    logging.getLogger("celery").info("bad\n12:00:00 INFO  run.succeeded\x1b[2J")

    first, second, third = stream.getvalue().splitlines()
    assert first.endswith(r'error="bad\n12:00:00 INFO  run.succeeded" key="\u001b[31mred[U+202E]" name="a=b"')
    assert second.endswith("celery bad")
    assert third == r"    12:00:00 INFO  run.succeeded\x1b[2J"


def test_the_last_configuration_holds_alone() -> None:
    first = written("text")
    second = io.StringIO()
    configure_logging("json", stream=second)

    emit("run.begun")

    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["event"] == "run.begun"


def test_a_broken_record_does_not_stop_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    written("text")

    logging.getLogger("other").info("%d rows", "many")

    assert "Logging error" in capsys.readouterr().err
