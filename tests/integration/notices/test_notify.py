"""Notices: each end of a run reaches its job's address, once it was there to take it, signed."""

import hashlib
import hmac
import json
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.ledger import batches, runs
from scorebeat.producer.context import Producer
from scorebeat.producer.control import control_round
from scorebeat.producer.control.notices import notify
from scorebeat.producer.control.plan import plan
from tests.support.cli_fixtures import JOB, ROWS, Cli, score_all
from tests.support.fixtures import Programs, wait_for
from tests.support.receiver import Receiver, notified, receiver, rows_of

__all__ = ["notified", "receiver"]

SECRET = "correct-horse-battery-staple"


def test_a_finished_run_sends_one_notice_with_the_fields_of_runs_json(
    scorebeat: Cli, notified: str, producer: Producer, receiver: Receiver
) -> None:
    scorebeat("enqueue", notified)
    score_all(producer, 1)

    for _ in range(3):
        control_round.run_once(producer)
        notify.notify_once(producer)

    ((path, headers, content),) = receiver.got
    notice = json.loads(content)
    (promised,) = json.loads(scorebeat("runs", "--json").stdout)
    assert path == "/hook"
    assert (notice["event"], notice["happened_at"]) == ("finished", promised["finished_at"])
    assert {name: notice[name] for name in promised} == promised
    assert headers["x-scorebeat-event"] == "finished"
    assert headers["x-scorebeat-notice"] == str(notice["notice"])
    assert "x-scorebeat-signature" not in headers


def test_a_receiver_that_knows_the_secret_distinguishes_ours_from_a_forgery(
    scorebeat: Cli, notified: str, settings: Settings, receiver: Receiver
) -> None:
    p = Producer(settings.model_copy(update={"notify_secret": SecretStr(SECRET)}), "test")
    scorebeat("enqueue", notified)
    score_all(p, 1)
    notify.note_ends(p)

    assert notify.notify_once(p) == 1

    (_, headers, content) = receiver.got[0]
    timestamp, mac = (part.split("=", 1)[1] for part in headers["x-scorebeat-signature"].split(","))
    assert abs(int(timestamp) - time.time()) < 60
    assert mac == hmac.new(SECRET.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()
    p.close()


def test_a_failed_and_a_late_run_send_notices_and_lateness_sends_only_one(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    scorebeat("enqueue", notified)
    plan(producer, 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 second'"))
    for _ in range(2):
        notify.note_ends(producer)
        notify.notify_once(producer)
    with engine.begin() as connection:
        runs.fail(connection, 1, "the disk is full")
        batches.cancel(connection, 1)
    notify.note_ends(producer)
    notify.notify_once(producer)

    assert receiver.events == ["late", "failed"]
    assert json.loads(receiver.got[1][2])["reason"] == "the disk is full"


def test_a_run_that_ended_late_between_two_checks_is_reported_as_late_too(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    scorebeat("enqueue", notified)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now()"))
    score_all(producer, 1)
    notify.note_ends(producer)
    notify.notify_once(producer)

    assert sorted(receiver.events) == ["finished", "late"]


@pytest.mark.slow
def test_a_requeued_run_sends_a_second_notice_at_its_end_unless_it_was_late(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver
) -> None:
    file = next(Path(producer.settings.artifacts).glob("adder/1/*.skops"))
    good = file.read_bytes()
    file.write_bytes(good + b"altered")
    scorebeat("enqueue", notified)
    score_all(producer, 1)
    notify.note_ends(producer)
    notify.notify_once(producer)
    file.write_bytes(good)
    assert scorebeat("requeue", "1").exit_code == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now()"))
    notify.note_ends(producer)
    score_all(producer, 1)
    notify.note_ends(producer)
    notify.notify_once(producer)

    assert receiver.events == ["failed", "finished"]
    assert json.loads(receiver.got[1][2])["rows_scored"] == ROWS


@pytest.mark.slow
def test_a_cancelled_run_and_a_job_without_an_address_send_no_notice(
    scorebeat: Cli, notified: str, producer: Producer, engine: Engine, receiver: Receiver, settings: Settings
) -> None:
    scorebeat("enqueue", notified)
    scorebeat("cancel", "1")
    control_round.run_once(producer)
    settings.jobs.write_text(JOB)
    assert scorebeat("apply").exit_code == 0
    scorebeat("enqueue", notified)
    score_all(producer, 2)
    control_round.run_once(producer)
    notify.notify_once(producer)

    assert (receiver.got, rows_of(engine)) == ([], [])


@pytest.mark.slow
def test_real_workers_score_a_run_and_report_its_end(
    scorebeat: Cli, notified: str, programs: Programs, receiver: Receiver, engine: Engine
) -> None:
    programs.control()
    programs.worker("cpu")
    scorebeat("enqueue", notified)

    wait_for(lambda: receiver.got, within=60)

    assert receiver.events == ["finished"]
    assert json.loads(receiver.got[0][2])["rows_scored"] == ROWS
    wait_for(lambda: rows_of(engine) == [("finished", 1, True, False, None)])
    assert "/hook" not in programs.logs()  # it is what a webhook's token is a part of
