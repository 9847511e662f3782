"""Every page of the Runs tab, in every state: readable, whole and usable by all, at a desk and on a telephone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser import axe, every_state
from tests.browser.chromium import MISSING, Browser, installed
from tests.browser.every_state import Runs
from tests.browser.window import browser, window
from tests.support.fixtures import wait_for
from tests.support.flower_fixtures import flower, s
from tests.support.flower_program import Flower
from tests.support.system import System

pytestmark = [pytest.mark.wide, pytest.mark.skipif(installed() is None, reason=MISSING)]

__all__ = ["browser", "flower", "s", "window"]

DESK, TELEPHONE = 1280, 390
SCREEN = 900
"""Height of a window at a desk."""
LAYOUT = """
const page = document.documentElement, live = document.getElementById("live") || document.querySelector(".runs-page");
const scrolls = (e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible";
const isSeen = (e) => e.checkVisibility() && !e.closest("thead, .visually-hidden");
const seen = [...live.querySelectorAll("*")].filter(isSeen);
const cut = seen.filter((e) => scrolls(e) || e.getBoundingClientRect().right > page.clientWidth + 1);
const unnamed = [...live.querySelectorAll(".cards td:not([colspan])")].filter((cell) => {
  const column = cell.closest("table").tHead.rows[0].cells[cell.cellIndex].textContent;
  const name = getComputedStyle(cell, "::before").content;
  return cell.checkVisibility() && column !== "Actions" && name !== `"${column}"`;
});
const named = (elements) => elements.map((e) => `${e.tagName} ${e.id} ${e.className} ${e.textContent.slice(0, 40)}`);
const sideways = page.scrollWidth - page.clientWidth;
return { sideways, height: page.scrollHeight, cut: named(cut), unnamed: named(unnamed) };
"""
STILL = "* { transition: none !important }"
"""A style with which a change of colours has no steps between."""
REACHED = """
const top = (e) => {
  const box = e.getBoundingClientRect();
  return document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
};
const all = [...document.querySelectorAll("#live button, #live a, #live summary")];
"""
"""Script: what is on top of an element, and all that can be pressed."""
REMEMBER = REACHED + "window.reached = all.filter((e) => e.contains(top(e))); return window.reached.length"
COVERED = (
    REACHED
    + """
return window.reached.filter((e) => top(e)?.closest("#toast-container")).map((e) => e.outerHTML)
"""
)


@dataclass(frozen=True)
class Look:
    """One page at one width."""

    layout: dict[str, Any]
    findings: list[str]
    """Of axe-core, in light and in dark, if it looked."""


@pytest.fixture(scope="module")
def runs(s: System, flower: Flower) -> Runs:
    return every_state.make(s, flower)


@pytest.fixture(scope="module")
def at_desk(s: System, flower: Flower, window: Browser, runs: Runs) -> dict[str, Look]:
    window.resize(DESK, SCREEN)
    return looks(s, flower, window, runs)


@pytest.fixture(scope="module")
def on_telephone(s: System, flower: Flower, window: Browser, runs: Runs) -> dict[str, Look]:
    with window.telephone(TELEPHONE):
        return looks(s, flower, window, runs, with_axe=False)


def looks(
    s: System, flower: Flower, browser: Browser, runs: Runs, *, with_axe: bool = axe.SCRIPT.exists()
) -> dict[str, Look]:
    paths = {name: f"/runs/{number}" for name, number in vars(runs).items()}
    paths |= {"list": "/runs", "job": f"/runs/job/{every_state.NAME}", "drifted job": "/runs/job/shifted"}
    paths |= {"task": f"/task/{every_state.TASK}", "wrong": "/runs?state=foo"}
    found = {}
    for name, path in paths.items():
        browser.open(flower.url + path)
        if name == "task":
            browser.until("Quarantined rows", "#batch-part")
        found[name] = look(browser, with_axe)
    browser.open(f"{flower.url}/runs/{runs.held}")
    browser.find("#release-run").click()
    found["question"] = look(browser, with_axe)
    with away(s):
        browser.open(f"{flower.url}/runs")
        found["away"] = look(browser, with_axe)
    return found


def look(browser: Browser, with_axe: bool) -> Look:
    """Dark has the same elements as light: only colours are looked at again."""
    layout = cast(dict[str, Any], browser.js(LAYOUT))
    if not with_axe:
        return Look(layout, [])
    browser.js(
        f"const still = new CSSStyleSheet(); still.replaceSync('{STILL}'); document.adoptedStyleSheets = [still]"
    )
    light = axe.findings(browser)
    browser.js("document.documentElement.dataset.bsTheme = 'dark'")
    return Look(layout, light + axe.findings(browser, "color-contrast"))


@contextmanager
def away(s: System) -> Iterator[None]:
    s.servers.stop("database")
    try:
        yield
    finally:
        s.servers.start("database")


needs_axe = pytest.mark.skipif(not axe.SCRIPT.exists(), reason=axe.MISSING)


@needs_axe
def test_axe_finds_nothing_on_any_page_in_any_state_in_light_or_dark(at_desk: dict[str, Look]) -> None:
    assert len(at_desk) == 13
    assert {name: one.findings for name, one in at_desk.items() if one.findings} == {}


@needs_axe
def test_axe_finds_nothing_on_a_telephone_either(s: System, flower: Flower, browser: Browser, runs: Runs) -> None:
    with browser.telephone(TELEPHONE):
        seen = looks(s, flower, browser, runs)

    assert {name: one.findings for name, one in seen.items() if one.findings} == {}


def test_the_longest_names_and_reasons_hide_nothing_at_a_desk(at_desk: dict[str, Look]) -> None:
    assert {name: one.layout for name, one in at_desk.items() if one.layout["cut"] or one.layout["sideways"]} == {}


def test_a_run_of_ten_thousand_dead_batches_stays_under_three_screens(at_desk: dict[str, Look]) -> None:
    assert at_desk["dead"].layout["height"] < 3 * SCREEN


def test_a_telephone_shows_each_row_as_a_card_that_names_its_cells(on_telephone: dict[str, Look]) -> None:
    seen = [one.layout for one in on_telephone.values()]

    assert [one["sideways"] for one in seen] == [0] * len(seen)
    assert [one["cut"] + one["unnamed"] for one in seen] == [[]] * len(seen)


def test_a_reason_that_the_keyboard_opens_stays_open_while_the_page_renews_itself(
    flower: Flower, browser: Browser, runs: Runs
) -> None:
    browser.open(f"{flower.url}/runs")
    row = f"#run-{runs.failed} .run-reason"
    height = "return document.querySelector(arguments[0]).getBoundingClientRect().height"
    low = cast(float, browser.js(height, row))
    assert browser.text(f"{row} summary") == "show all"
    assert not browser.find(f"#job-{every_state.NAME} .job-last-skip details summary .less").is_displayed()

    browser.find(f"{row} summary").send_keys(Keys.ENTER)
    browser.js(
        "const f = window.fetch; window.fetched = 0; window.fetch = (...a) => { window.fetched += 1; return f(...a) }"
    )
    wait_for(lambda: cast(int, browser.js("return window.fetched")) >= 2)

    assert cast(float, browser.js(height, row)) > 3 * low
    assert browser.text(f"{row} summary") == "show less"
    assert browser.driver.switch_to.active_element.text == "show less"


def test_a_time_shows_its_exact_value_when_it_has_the_focus(flower: Flower, browser: Browser, runs: Runs) -> None:
    browser.open(f"{flower.url}/runs")

    shown, written, exact = cast(
        list[str],
        browser.js(
            "const time = document.querySelector(arguments[0]); time.focus();"
            "return [getComputedStyle(time, '::after').content, time.innerText, time.title]",
            f"#run-{runs.empty} time",
        ),
    )

    assert written.endswith(" ago")
    assert exact.endswith(" UTC")
    assert shown == f'"{exact}"'


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("top", [80, 730], ids=["top", "bottom"])
def test_a_message_covers_no_button_and_leaves_by_its_cross(flower: Flower, browser: Browser, top: int) -> None:
    """Wherever the window has the button whose message it is: below the navigation, or at its end."""
    with browser.telephone(TELEPHONE):
        browser.open(f"{flower.url}/runs")
        button = browser.find("#job-shifted .actions button:last-child")
        done = {"Pause": "is paused", "Resume": "is resumed"}[button.text]
        browser.js("document.body.style.minHeight = '300vh'; document.documentElement.style.scrollBehavior = 'auto'")
        browser.js("window.scrollBy(0, arguments[0].getBoundingClientRect().top - arguments[1])", button, top)
        assert cast(int, browser.js(REMEMBER)) > 2
        browser.js("arguments[0].click()", button)
        wait_for(lambda: browser.find("#confirm").is_displayed())
        browser.js("document.getElementById('confirm-yes').click()")
        browser.until(done, "#toast-container")

        assert browser.js(COVERED) == []
        browser.find(".toast .btn-close").click()
        wait_for(lambda: not browser.all("#toast-container .toast"))
