"""Publishing never shows readers half a switch, and never keeps them waiting for long."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from scorebeat.db.connect.engine import make_engine
from scorebeat.db.predictions import views
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.predictions.views import ViewBusy
from scorebeat.producer.versions.publish import publish_anyway, rollback_anyway
from tests.integration.publishing.test_views import USUAL, VIEW, columns, shown, with_outputs
from tests.support.fixtures import wait_for
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

__all__ = ["ledger", "shown", "trained"]


def test_a_long_reader_keeps_publishing_waiting_but_never_other_readers(
    shown: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LOCK_TIMEOUT", "200ms")
    monkeypatch.setattr(views, "TRIES", 3)
    shown.new_version(2, with_outputs(label=pa.int64()))
    errors: list[Exception] = []

    def try_to_publish() -> None:
        try:
            publish_anyway(shown.producer, MODEL, 2, "ann")
        except ViewBusy as error:
            errors.append(error)

    with shown.engine.connect() as reader:
        reader.exec_driver_sql(f"SELECT count(*) FROM {VIEW}")
        publisher = threading.Thread(target=try_to_publish)
        publisher.start()
        while publisher.is_alive():
            with shown.runtime.engine.begin() as other:
                other.exec_driver_sql("SET LOCAL statement_timeout = '1s'")
                assert other.exec_driver_sql(f"SELECT count(*) FROM {VIEW}").scalar_one() == 25
    publisher.join()

    assert "is held by readers for over 200ms, tried 3 times; nothing was switched" in str(errors[0])
    publish_anyway(shown.producer, MODEL, 2, "ann")
    assert columns(shown) == ["id", "label", "batch_id", "scored_at"]


@pytest.mark.slow
def test_readers_all_the_while_see_one_version_whole_through_every_switch(shown: Ledger) -> None:
    shown.new_version(2, with_outputs(more=pa.float64(), **USUAL))
    shown.sql(f"CREATE VIEW best AS SELECT id, p2 FROM {VIEW}")
    shown.sql(f"GRANT SELECT ON {VIEW} TO reader_of_views")
    shown.enqueue(a_job(), version=2)
    shown.sql(
        "INSERT INTO predictions.flowers_job__flowers_v2 (id, label, p0, p1, p2, more, batch_id)"
        " SELECT id, 7, 0, 0, 1, 0, 1 FROM items"
    )
    seen: dict[str, list[tuple[int, int]]] = {VIEW: [], "best": []}
    stop = threading.Event()

    def read(relation: str, of_v2: str) -> None:
        engine = make_engine(shown.runtime.url, "reader")
        with engine.connect() as connection:
            while not stop.is_set():
                if relation == VIEW:
                    connection.exec_driver_sql("SET LOCAL ROLE reader_of_views")
                found = connection.exec_driver_sql(f"SELECT count(*), count(*) FILTER (WHERE {of_v2}) FROM {relation}")
                seen[relation].append(tuple(found.one()))
                connection.commit()
        engine.dispose()

    def until_seen(of_v2: int) -> None:
        wait_for(lambda: all(read and read[-1] == (25, of_v2) for read in seen.values()), every=0.01)

    shown.sql("GRANT USAGE ON SCHEMA predictions TO reader_of_views")
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, VIEW, "label = 7"), pool.submit(read, "best", "p2 = 1")]
        try:
            for _ in range(4):
                publish_anyway(shown.producer, MODEL, 2, "ann")
                until_seen(25)
                rollback_anyway(shown.producer, MODEL, "ann")
                until_seen(0)
        finally:
            stop.set()
        for reader in readers:
            reader.result(timeout=10)

    assert {one for read in seen.values() for one in read} == {(25, 0), (25, 25)}


def test_publishing_goes_on_when_a_short_reader_ends(shown: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "LOCK_TIMEOUT", "300ms")
    shown.new_version(2, with_outputs(label=pa.int64()))

    with shown.engine.connect() as reader:
        reader.exec_driver_sql(f"SELECT count(*) FROM {VIEW}")
        publisher = threading.Thread(target=publish_anyway, args=(shown.producer, MODEL, 2, "ann"))
        publisher.start()
        wait_for(shown.someone_waits, every=0.01)
    publisher.join()

    assert columns(shown) == ["id", "label", "batch_id", "scored_at"]


def test_showing_what_is_shown_already_takes_no_lock(shown: Ledger) -> None:
    target = PredictionSet(1, "flowers_job", MODEL, 1, 1, "flowers_job__flowers_v1", None)

    with shown.engine.connect() as reader, shown.engine.connect() as again:
        reader.exec_driver_sql(f"SELECT count(*) FROM {VIEW}")
        again.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        views.show(again, "flowers_job", target)
        locks = again.exec_driver_sql(
            f"SELECT count(*) FROM pg_locks WHERE relation = '{VIEW}'::regclass AND pid = pg_backend_pid()"
        ).scalar_one()

    assert locks == 0
