"""Events that anybody with access to the broker may send run nothing in the browser of who looks at Flower."""

from typing import Any

import pytest

from scorebeat.core.queues import SCORE
from tests.browser.chromium import Browser
from tests.browser.window import browser, flower, s, window
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower
from tests.support.forged_events import send_event
from tests.support.system import System

pytestmark = pytest.mark.slow

__all__ = ["browser", "flower", "s", "window"]

SCRIPT = "<img src=x onerror=\"document.documentElement.dataset.owned = 'yes'\">"
NAME = "cpu@forged"
ROWS = "/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0"
ORDER = "&order[0][dir]=asc&columns[0][data]=name&search[value]="
OWNED = "return document.documentElement.dataset.owned || 'no'"
TASK = "11111111-1111-1111-1111-11111111111"


@pytest.fixture(scope="module")
def forged(s: System, flower: Flower) -> list[str]:
    """Tasks that Flower has events of, with markup in each field, as a text and inside of lists and objects."""
    odd: list[Any] = [SCRIPT, [SCRIPT], {SCRIPT: SCRIPT}]
    for number, value in enumerate(odd):
        fields = dict.fromkeys(("args", "kwargs", "eta", "expires", "exchange", "queue", "root_id", "_fields"), value)
        send_event(s, NAME, "task-received", uuid=f"{TASK}{number}", name=SCORE, retries=value, **fields)
        send_event(s, NAME, "task-succeeded", uuid=f"{TASK}{number}", result=value, runtime=value, exception=value)
        send_event(
            s, NAME, "worker-heartbeat", loadavg=[value], active=value, processed=value, sw_ident=value, freq=value
        )
        send_event(s, NAME, "worker-heartbeat", _fields=["hostname", "task-failed"], **{"task-failed": value}, freq=60)
        send_event(s, NAME, "task-" + SCRIPT, uuid=f"{TASK}{number}", name=value)
        send_event(s, NAME, "task-received", uuid=value, name=value, args=value)
    send_event(s, NAME, "task-received", uuid=f"{TASK}9", name=SCRIPT, args=SCRIPT, kwargs=SCRIPT)
    wait_for(lambda: flower.get(f"/task/{TASK}9").status_code == 200)
    return [f"{TASK}{number}" for number in (0, 1, 2, 9)]


def test_markup_in_a_forged_event_is_text_on_each_page_of_flower(
    flower: Flower, browser: Browser, forged: list[str]
) -> None:
    pages = ("/tasks", "/", "/workers", "/broker", "/runs", *(f"/task/{task}" for task in forged))
    for page in pages:
        browser.open(flower.url + page)
        if page == "/tasks":
            wait_for(lambda: forged[1] in browser.driver.page_source)
        if page in ("/", "/workers"):
            wait_for(lambda: NAME in browser.driver.page_source)
        wait_for(lambda: browser.js("return document.readyState") == "complete")

        assert browser.js(OWNED) == "no", page
        assert browser.js("return document.querySelectorAll('img[src=x]').length") == 0, page


def test_flowers_list_works_whatever_a_forged_event_holds(flower: Flower, forged: list[str]) -> None:
    response = flower.get(ROWS + ORDER)

    assert response.status_code == 200
    rows = {row["uuid"]: row for row in response.json()["data"]}
    assert set(forged) <= set(rows)
    for task in forged:
        assert all(value is None or isinstance(value, str | int | float) for value in rows[task].values())
    assert flower.get("/workers?json=1").status_code == 200


def test_a_handler_in_markup_does_not_run_on_any_page_even_where_it_got_there(
    flower: Flower, browser: Browser, forged: list[str]
) -> None:
    for page in ("/tasks", "/workers", "/runs", f"/task/{forged[0]}", "/nowhere/to/be/found", "/broker"):
        browser.open(flower.url + page)
        browser.js("document.body.insertAdjacentHTML('beforeend', arguments[0])", SCRIPT)
        wait_for(lambda: browser.js("return document.querySelector('img[src=x]').complete"))

        assert browser.js(OWNED) == "no", page


def test_flowers_own_pages_bear_that_policy(flower: Flower, browser: Browser) -> None:
    browser.driver.get_log("browser")  # type: ignore[no-untyped-call]  # what others left
    for page in ("/workers", "/tasks", "/broker", "/runs"):
        browser.open(flower.url + page)
        log = browser.driver.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium publishes no type of it

        assert [line["message"] for line in log if "Content Security" in line["message"]] == []
    browser.open(f"{flower.url}/workers")
    assert browser.js("return window.autorefresh") == 1  # Flower's one script in a page
