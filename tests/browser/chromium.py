"""A headless Chromium of the machine's own, driven by its chromedriver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.fixtures import wait_for

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",  # it is our own page, and a container's root has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
MISSING = "no Chromium with its chromedriver here: install the packages chromium and chromium-driver to run this"


def installed() -> tuple[str, str] | None:
    """Paths of the browser and of its driver; None if either is missing."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """A window; what is looked for is waited for."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Returns when the page was drawn, which is after it was loaded: until then nothing of it can be read."""
        self.driver.get(url)
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def resize(self, width: int, height: int = 900) -> None:
        self.driver.set_window_size(width, height)

    @contextmanager
    def telephone(self, width: int, height: int = 800) -> Iterator[None]:
        """As wide as one, which a window cannot be."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def find(self, css: str) -> WebElement:
        return wait_for(lambda: self.all(css))[0]

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str = "body") -> str:
        """As a reader sees it now; empty when it is not there."""
        return str(self.js("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", css))

    def until(self, words: str, css: str = "body", within: float = 30.0) -> None:
        wait_for(lambda: words in self.text(css), within)

    def js(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def click(self, css: str) -> None:
        """By itself the page would scroll to it smoothly, and the click meet what is there until then."""
        self.find(css)
        self.js("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", css)
        self.find(css).click()

    def press(self, css: str) -> None:
        """Click a button that opens a question, and agree."""
        self.click(css)
        wait_for(lambda: self.find("#confirm").is_displayed())
        self.find("#confirm-yes").click()


@contextmanager
def chromium(folder: Path, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with an empty profile in `folder`. Raises FileNotFoundError where there is none."""
    found = installed()
    if found is None:
        raise FileNotFoundError(MISSING)
    options = ChromeOptions()
    options.binary_location = found[0]
    for switch in (*SWITCHES, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(switch)
    driver = Chrome(options=options, service=Service(found[1]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
