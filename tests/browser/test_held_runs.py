"""A run that drifted and is held, in a real browser: what is too far is seen, and a click releases or discards it."""

import pytest

from scorebeat.core.states import RunState
from tests.browser.chromium import Browser
from tests.browser.window import browser, flower, s, window
from tests.support.flower_program import Flower, poisoned_job
from tests.support.system import System

pytestmark = pytest.mark.wide

__all__ = ["browser", "flower", "s", "window"]


def held_run(s: System, name: str) -> int:
    """The second run of a job with a gate, over values that moved."""
    job = poisoned_job(s, name, 2_000, {}, rescore="every-run", gate={"drift": "hold"})
    assert s.until_finished(s.enqueue(job)) is RunState.SUCCEEDED
    s.execute(f"UPDATE {name} SET x = x + 900")
    run = s.enqueue(job)
    assert s.until_finished(run) is RunState.HELD
    return run


def decide(browser: Browser, button: str, why: str) -> None:
    """Press the button, and agree with a reason."""
    browser.find(button).click()
    browser.find("#confirm-why").send_keys(why)
    browser.find("#confirm-yes").click()


def test_a_held_run_is_released_by_a_click_with_a_reason(s: System, flower: Flower, browser: Browser) -> None:
    run = held_run(s, "shifted")
    browser.open(f"{flower.url}/runs?state=held")
    browser.until(f"run {run} of job shifted is held by the gate", "#notes")
    assert "held" in browser.text(f"#run-{run} .badge")
    browser.find(f"#run-{run} a").click()

    browser.until("scorebeat release", "#held")
    assert "compared with run" in browser.text("#compared")
    (first, second) = (row.text for row in browser.all("#far-columns tbody tr"))
    assert first.startswith("x\ninput")
    assert "standard deviations" in first
    assert second.startswith("value\noutput")
    assert browser.all("#requeue-run") == []

    decide(browser, "#release-run", "the <campaign> began")
    browser.until("succeeded", "h1")
    assert browser.all("#held") == []
    assert "flower: run.released why the <campaign> began" in browser.text("#actions")
    assert s.query("SELECT min(value) > 900 FROM predictions.shifted") == [(True,)]


def test_a_held_run_is_discarded_by_a_click_and_readers_keep_what_they_see(
    s: System, flower: Flower, browser: Browser
) -> None:
    run = held_run(s, "broken_load")
    browser.open(f"{flower.url}/runs/{run}")
    decide(browser, "#discard-run", "a wrong load")
    browser.until("failed", "h1")
    browser.until("a wrong load", ".run-why")
    assert s.query("SELECT min(value) < 900, count(*) FROM predictions.broken_load") == [(True, 2_000)]


def test_a_held_run_fits_a_telephone(s: System, flower: Flower, browser: Browser) -> None:
    run = held_run(s, "narrow_held")
    with browser.telephone(390):
        browser.open(f"{flower.url}/runs/{run}")
        browser.until("Release", "#held")
        assert browser.js("return document.documentElement.scrollWidth") == 390
