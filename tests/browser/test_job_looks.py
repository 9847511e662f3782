"""The page of a job in a real browser: from the morning's line to a drifted measure, by keyboard, on a telephone."""

import pytest
from selenium.webdriver.common.keys import Keys

from scorebeat.core.states import RunState
from tests.browser.chromium import Browser
from tests.browser.window import browser, flower, s, window
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower, poisoned_job
from tests.support.system import System

__all__ = ["browser", "flower", "s", "window"]

ROWS = 1_200
COUNT = (
    "window.fetched = 0; const f = window.fetch;"
    "window.fetch = (...a) => f(...a).then((r) => { window.fetched += 1; return r })"
)
"""Script that counts the responses that the page fetched."""


@pytest.fixture(scope="module")
def job(s: System) -> str:
    """Three runs, of which the last one is over values that moved."""
    made = poisoned_job(s, "moved", ROWS, {}, rescore="every-run")
    for _ in range(2):
        assert s.until_finished(s.enqueue(made)) is RunState.SUCCEEDED
    s.execute("UPDATE moved SET x = x + 900")
    assert s.until_finished(s.enqueue(made)) is RunState.SUCCEEDED
    return "moved"


@pytest.mark.wide
def test_the_morning_leads_to_what_drifted_and_how_by_keyboard_alone(
    flower: Flower, browser: Browser, job: str
) -> None:
    browser.open(f"{flower.url}/runs")
    browser.find(f"#morning-{job} .morning-job").send_keys(Keys.ENTER)

    browser.until("drifted in run 3", "#right")
    assert "look" in browser.text("#right .badge")
    cell = browser.find(".heat-map tbody tr:first-child td.level-drift a")
    assert "x in run 3: " in str(cell.get_attribute("aria-label"))
    cell.send_keys(Keys.ENTER)

    browser.until("x (input) of run 3", "#distribution-0-title")
    browser.find("#distribution-0-figures summary").send_keys(Keys.ENTER)
    wait_for(lambda: "Reference" in browser.text("#distribution-0-figures table"))
    cells = [[cell.text for cell in row.find_elements("css selector", "td")[1:]]
             for row in browser.all("#distribution-0-figures tbody tr")]  # fmt: skip
    before, now = ([float(row[at].removesuffix(" %")) for row in cells] for at in (0, 1))
    assert [sum(before), sum(now)] == pytest.approx([100, 100], abs=1)
    assert (before[0] > 0, now[0], before[-1], now[-1] > 0) == (True, 0.0, 0.0, True)


@pytest.mark.wide
def test_a_page_of_a_job_fits_a_telephone_and_keeps_an_open_table_while_it_renews(
    flower: Flower, browser: Browser, job: str
) -> None:
    with browser.telephone(390):
        browser.open(f"{flower.url}/runs/job/{job}")
        browser.find(".heat-map")
        assert browser.js("return document.documentElement.scrollWidth") == 390
        widths = browser.js("return [...document.querySelectorAll('.drawing')].map((e) => e.clientWidth)")
        assert isinstance(widths, list)
        assert 200 < min(widths) <= max(widths) < 390

    browser.js("document.querySelector('#durations-figures').open = true")
    browser.js(COUNT)
    browser.js("document.dispatchEvent(new Event('visibilitychange'))")
    wait_for(lambda: browser.js("return window.fetched") == 1)
    assert browser.js("return document.querySelector('#durations-figures').open") is True
