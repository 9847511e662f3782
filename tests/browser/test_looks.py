"""How the Runs tab behaves in a real browser: narrow, by keyboard, spoken, and renewed without a flicker."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Browser
from tests.browser.window import a_dead_batch, browser, flower, partial_run, s, window
from tests.support.fixtures import wait_for
from tests.support.flower_program import Flower, poisoned_job
from tests.support.system import System

pytestmark = pytest.mark.wide

__all__ = ["browser", "flower", "s", "window"]

NARROW = 400
"""Pixels: a telephone."""
COUNT = (
    "window.fetched = window.posted = 0; const f = window.fetch;"
    "window.fetch = (...a) => { if (a[1].method === 'POST') { window.posted += 1 } else { window.fetched += 1 }"
    " return f(...a) }"
)
"""Script that counts the page's GET and POST requests."""


def until_renewed(browser: Browser, times: int) -> None:
    wait_for(lambda: int(str(browser.js("return window.fetched"))) >= times)


def test_a_question_that_is_declined_changes_nothing(s: System, flower: Flower, browser: Browser) -> None:
    run = a_dead_batch(s, "question")
    browser.open(f"{flower.url}/runs/{run}")
    browser.js(COUNT)

    browser.find("#requeue-run").send_keys(Keys.ENTER)
    wait_for(lambda: browser.find("#confirm").is_displayed())
    focused = browser.driver.switch_to.active_element
    assert focused.text == "No, leave it"
    focused.send_keys(Keys.ESCAPE)
    wait_for(lambda: not browser.find("#confirm").is_displayed())

    assert browser.driver.switch_to.active_element.get_attribute("id") == "requeue-run"
    until_renewed(browser, 2)
    assert browser.js("return window.posted") == 0
    assert [state for state, *_ in s.batches(run)] == ["dead"]


def test_a_job_is_paused_by_keyboard_with_its_reason(s: System, flower: Flower, browser: Browser) -> None:
    partial_run(s, "tired")
    browser.open(f"{flower.url}/runs?job=tired")

    browser.find("#pause-tired").send_keys(Keys.ENTER)
    wait_for(lambda: browser.find("#confirm-why").is_displayed())
    browser.driver.switch_to.active_element.send_keys("being <rebuilt>", Keys.ENTER)

    browser.until("by flower: being <rebuilt>", "#job-tired")
    assert browser.find("#resume-tired").is_displayed()


def test_everything_is_done_by_the_keyboard_alone(s: System, flower: Flower, browser: Browser) -> None:
    run = a_dead_batch(s, "by_keys")
    browser.open(f"{flower.url}/runs/{run}")

    browser.find("#requeue-run").send_keys(Keys.SPACE)
    wait_for(lambda: browser.find("#confirm").is_displayed())
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "confirm-yes"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)

    browser.until("1 batch of run", "#toast-container")
    assert [state for state, *_ in s.batches(run)] == ["pending"]


def test_markup_in_an_error_is_text_in_the_page_and_in_the_question(
    s: System, flower: Flower, browser: Browser
) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    run = a_dead_batch(s, "evil", error=evil)
    browser.open(f"{flower.url}/runs/{run}")
    browser.click("#groups button")

    wait_for(lambda: browser.find("#confirm").is_displayed())

    assert "<script>" in browser.text("#confirm-text")
    assert evil in browser.text("#groups")
    assert browser.all("#live img") == browser.all("#confirm img") == []
    assert browser.driver.title == f"Run {run} · Flower"


def test_the_page_renews_itself_without_touching_what_did_not_change(
    s: System, flower: Flower, browser: Browser
) -> None:
    _, run = partial_run(s, "steady")
    browser.open(f"{flower.url}/runs/{run}")
    browser.js("document.querySelector('#groups details').open = true; document.getElementById('requeue-run').focus()")
    browser.js(
        "window.changes = []; new MutationObserver((all) => all.filter((c) => !c.target.parentNode.closest('time'))"
        ".forEach((c) => window.changes.push("
        "`${c.type} ${c.target.nodeName} ${c.attributeName} ${c.target.textContent.slice(0, 80)}`)))"
        ".observe(document.getElementById('live'),"
        " {subtree: true, childList: true, characterData: true, attributes: true})"
    )
    browser.js(COUNT)

    until_renewed(browser, 3)

    assert browser.js("return window.changes") == []
    assert browser.js("return document.querySelector('#groups details').open") is True
    assert browser.driver.switch_to.active_element.get_attribute("id") == "requeue-run"


def test_a_new_run_comes_into_the_list_and_the_focus_stays_on_its_run(
    s: System, flower: Flower, browser: Browser
) -> None:
    first = a_dead_batch(s, "list_1")
    browser.open(f"{flower.url}/runs")
    browser.js(f"document.querySelector('#run-{first} a').focus()")

    second = a_dead_batch(s, "list_2")
    browser.find(f"#run-{second}")

    assert f"/runs/{first}" in str(browser.driver.switch_to.active_element.get_attribute("href"))
    assert browser.js("return document.querySelector('#runs-table tbody tr').id") == f"run-{second}"


def test_a_window_of_usual_width_shows_the_buttons_of_every_job(s: System, flower: Flower, browser: Browser) -> None:
    name = "m" * 40
    poisoned_job(s, name, 5, {}, schedule="0 2 * * *", timezone="America/Argentina/ComodRivadavia")
    s.execute(
        "UPDATE scorebeat.jobs SET paused_at = now(), paused_by = 'ann', paused_reason = repeat('being rebuilt ', 30)"
        " WHERE name = :name",
        name=name,
    )
    s.execute(
        "INSERT INTO scorebeat.actions (by, action, subject, details) VALUES ('beat', 'tick.skipped', 'job ' || :name,"
        " jsonb_build_object('due_at', now(), 'reason', repeat('paused by ann ', 30)))",
        name=name,
    )
    browser.open(f"{flower.url}/runs")
    browser.find(f"#resume-{name}")

    assert (
        browser.js("const e = document.querySelector('#jobs-table').parentNode; return e.scrollWidth - e.clientWidth")
        == 0
    )


@pytest.mark.parametrize("path", ["/runs", "/runs/{run}"])
def test_a_narrow_window_shows_all_without_scrolling_the_page_sideways(
    s: System, flower: Flower, browser: Browser, path: str
) -> None:
    run = a_dead_batch(s, f"narrow_{len(path)}", error="OSError: " + "a_long_word_without_a_break" * 20)
    with browser.telephone(NARROW):
        browser.open(flower.url + path.format(run=run))
        browser.find("#live table")

        assert browser.js("return window.innerWidth") == NARROW
        assert browser.js("return document.documentElement.scrollWidth") == NARROW
        browser.find("#requeue-run" if "{" in path else "#jobs-title").is_displayed()


def test_progress_and_chart_are_readable_by_a_screen_reader(s: System, flower: Flower, browser: Browser) -> None:
    _, run = partial_run(s, "spoken")
    browser.open(f"{flower.url}/runs/{run}")

    bar, chart = browser.find('#live [role="progressbar"]'), browser.find('#live svg[role="img"]')

    assert bar.get_attribute("aria-valuenow") == "100"
    assert bar.get_attribute("aria-valuetext") == "39 of 40 rows scored, 1 failed"
    assert "Rows a second" in str(chart.get_attribute("aria-label"))
    nameless = (
        "return [...document.querySelectorAll('#live button, #live a, #live select, #live input:not([type=hidden])')]"
        ".filter((e) => !(e.innerText || e.ariaLabel || (e.labels && e.labels.length))).length"
    )
    assert browser.js(nameless) == 0
