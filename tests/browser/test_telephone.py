"""The Runs tab on a telephone: keys whole, rows low, toasts that can be closed, and its notes."""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import Browser
from tests.browser.window import a_dead_batch, browser, flower, partial_run, s, window
from tests.support.flower_program import Flower, poisoned_job
from tests.support.ledger_rows import add_batch, add_run
from tests.support.system import System

pytestmark = pytest.mark.wide

__all__ = ["browser", "flower", "s", "window"]

WIDTH = 390
LONG = "batch 3 is dead after 5 attempts: ValueError: thirteen " + "and the message goes on and on " * 15
LINES = (
    "const r = document.createRange(); r.selectNodeContents(document.querySelector(arguments[0]));"
    "return new Set([...r.getClientRects()].map((box) => Math.round(box.top))).size"
)
"""Script: on how many lines a text is."""
HEIGHT = "return document.querySelector(arguments[0]).getBoundingClientRect().height"
INSIDE = (
    "const [inner, outer] = [...arguments].map((css) => document.querySelector(css).getBoundingClientRect());"
    "return inner.left >= outer.left && inner.right <= outer.right"
)
UNCOVERED = (
    "const cross = document.querySelector(arguments[0]), box = cross.getBoundingClientRect();"
    "return document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2) === cross"
)
WIDE_AS_ITS_BOX = "const e = document.querySelector(arguments[0]); return e.scrollWidth <= e.clientWidth"


@pytest.fixture
def telephone(browser: Browser) -> Iterator[Browser]:
    with browser.telephone(WIDTH, 844):
        yield browser


def quarantine(s: System, run: int, values: str) -> None:
    """The run's row in quarantine has these, in SQL."""
    s.execute(
        f"UPDATE scorebeat.quarantine z SET {values} FROM scorebeat.batches b WHERE b.id = z.batch_id"
        " AND b.run_id = :run",
        run=run,
    )


def test_a_key_and_a_time_are_not_broken_in_the_middle(s: System, flower: Flower, telephone: Browser) -> None:
    _, run = partial_run(s, "keyed")
    quarantine(s, run, "key = '[123456789012]', error = repeat('one_long_word', 20)")

    telephone.open(f"{flower.url}/runs/{run}")

    assert telephone.text("#rows tbody td") == "123456789012"
    assert telephone.js(LINES, "#rows tbody td .row-key .clamped") == 1
    assert telephone.js(LINES, "#rows tbody td.timestamp") == 1


def test_a_key_that_is_long_does_not_push_its_error_out_of_sight(s: System, flower: Flower, telephone: Browser) -> None:
    _, run = partial_run(s, "long_keyed")
    quarantine(s, run, "key = jsonb_build_array(repeat('k', 150))")

    telephone.open(f"{flower.url}/runs/{run}")

    assert telephone.text("#rows tbody .row-key .clamped").replace("\n", "") == "k" * 150
    assert int(str(telephone.js("return document.querySelector('#rows tbody td').offsetWidth"))) < WIDTH


def test_a_long_reason_leaves_its_row_low_and_is_whole_on_its_page(
    s: System, flower: Flower, telephone: Browser
) -> None:
    run = a_dead_batch(s, "reasoned", error=LONG)
    s.execute("UPDATE scorebeat.runs SET reason = :reason WHERE id = :run", reason=LONG, run=run)

    telephone.open(f"{flower.url}/runs?job=reasoned")
    assert float(str(telephone.js(HEIGHT, f"#run-{run} .run-reason"))) < 100

    telephone.open(f"{flower.url}/runs/{run}")
    assert float(str(telephone.js(HEIGHT, ".batches-table .error-cell"))) < 100
    telephone.find("#reason summary").click()
    assert telephone.text("#reason .clamped").strip() == LONG.strip()
    assert telephone.js(WIDE_AS_ITS_BOX, "#reason .clamped")


def test_a_toast_holds_a_long_name_and_its_cross(s: System, flower: Flower, telephone: Browser) -> None:
    name = "m" * 40  # as long as a name may be, and of wide letters
    poisoned_job(s, name, 5, {})
    telephone.open(f"{flower.url}/runs")

    telephone.press(f"#pause-{name}")
    telephone.until("is paused", "#toast-container")

    assert telephone.js(WIDE_AS_ITS_BOX, ".toast-body")
    assert telephone.js(INSIDE, ".toast .btn-close", ".toast")
    assert telephone.js(UNCOVERED, ".toast .btn-close")


@pytest.mark.parametrize("path", ["/runs/987654321", "/runs?state=foo", "/runs?before=abc"])
def test_a_wrong_address_has_a_margin_and_leads_back(flower: Flower, telephone: Browser, path: str) -> None:
    telephone.open(flower.url + path)

    assert float(str(telephone.js("return document.querySelector('#wrong').getBoundingClientRect().left"))) >= 8
    assert telephone.js("return document.documentElement.scrollWidth") == WIDTH
    telephone.find(".runs-page a.btn").click()
    telephone.until("Batch inference".upper(), "#live")


def test_a_note_comes_while_the_page_is_open_and_fits_it(s: System, flower: Flower, telephone: Browser) -> None:
    with s.engine.begin() as connection:
        run = add_run(connection, "running", "unheard")
        add_batch(connection, run, queue="nobody")
    s.execute("UPDATE scorebeat.jobs SET removed_at = now() WHERE name = 'unheard'")  # it has no table
    telephone.open(f"{flower.url}/runs/{run}")
    assert telephone.text("#notes") == ""

    s.execute("UPDATE scorebeat.runs SET spec = jsonb_set(spec, '{queue}', '\"nightly\"') WHERE id = :run", run=run)

    telephone.until("no worker listens on queue 'nightly'", "#notes")
    assert telephone.text("#notes code") == "scorebeat worker --device cpu --queue nightly"
    assert telephone.js("return document.documentElement.scrollWidth") == WIDTH
