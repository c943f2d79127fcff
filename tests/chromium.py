"""A real Chromium, without a window, for the demo's page.

Debian's ``chromium`` and ``chromium-driver``, driven by selenium.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 60.0
# What it would do beside the page, it does not; as root it has no sandbox.
_WORDS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--hide-scrollbars"),
    *(["--no-sandbox"] if os.getuid() == 0 else []),
)
_NETWORK = "http", "https", "ws", "wss"  # chrome: is the browser itself
_LOGS = {"browser": "ALL", "performance": "ALL"}


class Chromium:
    """A browser with some tabs, in which nobody has been before."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._logged: dict[str, list[Any]] = {kind: [] for kind in _LOGS}

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is read there, in one line."""
        return " ".join(self.find(selector).text.split())

    def count(self, selector: str) -> int:
        return len(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def press_tab(self) -> None:
        ActionChains(self.driver).send_keys(Keys.TAB).perform()

    def focused(self) -> str:
        """What the element that has the keyboard is called, or is worth."""
        element = self.driver.switch_to.active_element
        return element.text or str(element.get_attribute("value"))

    def click(self, selector: str) -> None:
        """Click on the first of them, when it is not off."""
        self.until(lambda: self.find(selector).is_enabled())
        self.find(selector).click()

    def until(self, ready: Any) -> Any:
        """Wait until it is true, and give what it returns."""
        return WebDriverWait(self.driver, SECONDS, 0.02).until(lambda _: ready())

    def until_reads(self, selector: str, text: str) -> None:
        try:
            self.until(lambda: text in self.text(selector))
        except BaseException as error:
            error.add_note(f"{selector} reads {self.text(selector)!r}, not {text!r}")
            raise

    def show(self, *, dark: bool = False, width: int = 1180, height: int = 900) -> None:
        """As a screen of this width, in CSS pixels, of a reader who likes it dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [scheme]}
        )
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "mobile": False}
        )

    def complaints(self) -> list[str]:
        """What the consoles of all tabs say, of any level."""
        return [entry["message"] for entry in self._log("browser")]

    def hosts(self) -> set[str]:
        """Whom the pages have asked for something, as host:port."""
        events = [json.loads(e["message"])["message"] for e in self._log("performance")]
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return {at.netloc for at in map(urlsplit, urls) if at.scheme in _NETWORK}

    def _log(self, kind: str) -> list[Any]:
        self._logged[kind] += self.driver.get_log(kind)  # each line is told once
        return self._logged[kind]


@contextlib.contextmanager
def started() -> Iterator[Chromium]:
    """A new browser, with a profile of its own that nothing is left of."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(BROWSER)
        options.set_capability("goog:loggingPrefs", _LOGS)
        for word in (*_WORDS, f"--user-data-dir={profile}"):
            options.add_argument(word)
        driver = Chrome(options, ChromeService(DRIVER))
        try:
            yield Chromium(driver)
        finally:
            driver.quit()
