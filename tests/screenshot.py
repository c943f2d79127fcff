"""Makes docs/demo.png of the demo's page, in a real Chromium: ``make screenshot``.

``--dark`` and ``--narrow`` show it as others see it.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path

import chromium
from chromium import Chromium

from smartredis_wsgi.demo.site import serve

PICTURE = Path(__file__).parent.parent / "docs" / "demo.png"
WIDE, NARROW = 1120, 360


def use(browser: Chromium) -> None:
    """Fill the session, send crowds, log out while a request is slow, begin again."""
    for act in ("login", "count", "count", "put", "put", "turn"):
        browser.click(f".buttons [data-act={act}]")
    for _ in range(2):  # the first one has to connect to Redis, fifty times
        browser.click("#crowd button")
        browser.until_reads("#said", "requests to naive")
        browser.until_reads("#said", "Lost:")
    browser.click("#slow")
    browser.until_reads("#at-work", "still at work")
    browser.click(".story [data-act=logout]")
    browser.until_reads("#verdict", "came back")
    for act in ("login", "put"):
        browser.click(f".buttons [data-act={act}]")
    browser.until_reads("#ours", "version 2")
    browser.until_reads("#ours", "destroyed")
    browser.driver.execute_script("document.activeElement.blur()")


def pictured(browser: Chromium) -> bytes:
    """The whole page, from its top to its end."""
    taken = browser.driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True}
    )
    return base64.b64decode(taken["data"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="screenshot", description=__doc__)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--narrow", action="store_true", help=f"{NARROW} px")
    parser.add_argument("--out", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    _, port = serve(0)
    with chromium.started() as browser:
        browser.show(dark=arguments.dark, width=NARROW if arguments.narrow else WIDE)
        browser.driver.get(f"http://127.0.0.1:{port}/")
        use(browser)
        arguments.out.write_bytes(pictured(browser))
    print(f"{arguments.out}, {arguments.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
