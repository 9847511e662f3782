"""axe-core: finds what cannot be read, reached or named on a page by people who see little or use no mouse."""

import sys
from pathlib import Path
from typing import Any, cast

from tests.browser.chromium import Browser

SCRIPT = Path(sys.prefix) / "axe/axe_playwright_python/axe.min.js"
"""From the package that tests/browser/axe.txt names; it holds axe-core as npm has it."""
MISSING = "no axe-core here: `make install` brings it where a package index can be reached"
_RUN = """
const [only, done] = arguments;
const options = { resultTypes: ["violations"], rules: { "label-content-name-mismatch": { enabled: true } } };
if (only) { options.runOnly = { type: "rule", values: [only] }; }
axe.run(document, options).then(({ violations }) => done(violations.flatMap(({ id, nodes }) =>
  nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary}`))), (error) => done([String(error)]));
"""
"""All rules of its standard set, and the one by which a name that is spoken has the words that are seen."""


def findings(browser: Browser, only: str | None = None) -> list[str]:
    """What is wrong with the open page, by all rules or only this one."""
    if not browser.js("return 'axe' in window"):
        browser.js(SCRIPT.read_text("utf-8"))
    return cast(list[str], cast(Any, browser.driver).execute_async_script(_RUN, only))
