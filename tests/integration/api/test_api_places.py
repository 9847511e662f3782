"""A model that hangs takes no other endpoint with it, and its callers get a response in time."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pydantic import SecretStr

from scorebeat.api import slots
from scorebeat.api.app import make
from scorebeat.api.service import Service
from scorebeat.api.slots import SLOTS
from scorebeat.core.settings import Settings
from scorebeat.online.predictor import Predictor, Turns
from tests.support.api_fixtures import BEARER, TOKEN, Client, scored, served
from tests.support.fixtures import Programs, wait_for
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.wide

__all__ = ["ledger", "points", "scored", "trained"]

ROWS = {"rows": [{"a": 5, "b": 3}]}


class Sleeper:
    """A model, instead of the first version, that returns when it is woken."""

    def __init__(self, service: Service) -> None:
        self.woken = Event()
        version = service.online.version("flowers/1")
        self._model = service.online._loaded(version).model
        self.outputs = self._model.outputs
        self.thread_safe = True
        service.online._models[("flowers", 1)] = Turns(self)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.woken.wait()
        return self._model.predict(rows)


@pytest.fixture
def service(settings: Settings, scored: Ledger) -> Iterator[tuple[Client, Service]]:
    """An API with a time limit of a second for a prediction."""
    app = make(settings.model_copy(update={"api_token": SecretStr(TOKEN), "row_time_limit": 1}))
    assert scored.settings.database_url == settings.database_url
    with served(app) as url, Client(base_url=url, headers=BEARER, timeout=30) as client:
        yield client, app.state.service


def many(client: Client, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as callers:
        return list(callers.map(lambda _: client.post("/predict/flowers", json=ROWS), range(count)))


def test_predictions_that_hang_fail_in_time_and_leave_other_endpoints_alone(service: tuple[Client, Service]) -> None:
    client, served = service
    model = Sleeper(served)
    try:
        responses = many(client, 45)

        assert {(a.status_code, a.headers["retry-after"]) for a in responses} == {(503, "5")}
        errors = [response.json()["error"] for response in responses]
        assert sum("by 'flowers' did not answer within 1 s" in one for one in errors) == SLOTS
        assert sum("found none of 8 slots free within 1 s" in one for one in errors) == 45 - SLOTS
        for path in ("/ready", "/runs", "/data/all", "/metrics", "/health"):
            assert client.get(path, timeout=5).status_code == 200, path
        at_once = client.post("/predict/flowers", json=ROWS, timeout=5)
        assert (at_once.status_code, "has no slot: all 8" in at_once.json()["error"]) == (503, True)
    finally:
        model.woken.set()
    wait_for(lambda: client.post("/predict/flowers", json=ROWS).status_code == 200)
    assert {response.status_code for response in many(client, 3 * SLOTS)} == {200}


def test_the_process_counts_as_dead_once_all_slots_hang_for_minutes_and_not_before(
    service: tuple[Client, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, served = service
    model = Sleeper(served)
    monkeypatch.setattr(slots, "STUCK_AFTER", 2)
    try:
        many(client, SLOTS - 1)
        time.sleep(2.5)  # a slot is free: nothing is to happen
        assert client.get("/health").status_code == 200

        many(client, 1)

        assert client.get("/health").status_code == 200
        wait_for(lambda: client.get("/health").status_code == 503)
        assert "start the server again" in client.get("/health").json()["error"]
    finally:
        model.woken.set()
    wait_for(lambda: client.get("/health").status_code == 200)


def test_a_model_that_does_not_finish_loading_holds_up_none_that_is_loaded(
    service: tuple[Client, Service], scored: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = service
    scored.new_version(2)
    assert client.post("/predict/flowers/1", json=ROWS).status_code == 200
    loaded, load = Event(), Predictor.load

    def slowly(self: Predictor, version: Any) -> Any:
        loaded.wait()
        return load(self, version)

    monkeypatch.setattr(Predictor, "load", slowly)
    try:
        late = client.post("/predict/flowers/2", json=ROWS)

        assert (late.status_code, "the time for loading included" in late.json()["error"]) == (503, True)
        assert client.post("/predict/flowers/1", json=ROWS).status_code == 200
    finally:
        loaded.set()
    wait_for(lambda: client.post("/predict/flowers/2", json=ROWS).status_code == 200)


def test_the_command_ends_though_predictions_hang(programs: Programs, points: Points) -> None:
    points.model({"hang": [1]})
    process = programs.start("tests.support.poisoned_api", SCOREBEAT_API_TOKEN=TOKEN, SCOREBEAT_ROW_TIME_LIMIT="1")
    lines = wait_for(lambda: [line for line in programs.log(process).splitlines() if line.startswith("serving ")])
    with httpx.Client(base_url=lines[0].removeprefix("serving "), headers=BEARER, timeout=30) as client:
        assert client.post("/predict/poison", json={"rows": [{"x": 2.5}]}).json()["predictions"] == [{"value": 5.0}]
        assert client.post("/predict/poison", json={"rows": [{"x": 1.5}]}).status_code == 503

    programs.stop(process, signal.SIGTERM)

    assert process.returncode == 0
    assert "api.prediction_late" in programs.log(process)


def test_the_command_ends_when_a_model_closes_what_it_listens_on(programs: Programs, points: Points) -> None:
    points.model({"close": [1]})
    process = programs.start("tests.support.poisoned_api", SCOREBEAT_API_TOKEN=TOKEN)
    lines = wait_for(lambda: [line for line in programs.log(process).splitlines() if line.startswith("serving ")])
    with httpx.Client(base_url=lines[0].removeprefix("serving "), headers=BEARER, timeout=30) as client:
        assert client.post("/predict/poison", json={"rows": [{"x": 2.5}]}).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/predict/poison", json={"rows": [{"x": 1.5}]})

    assert process.wait(60) == 74
    assert "api.descriptors_closed model=poison/1" in programs.log(process)
