"""Pictures of the page and of the report for the documentation, in Debian's Chromium.

    python -m tests.screenshots [DIRECTORY]

writes them into `docs/_static`, or elsewhere. Look at them after a change to the look.
"""

from __future__ import annotations

import contextlib
import shutil
import smtplib
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from notnow.control.fleet import Fleet
from notnow.control.server import ControlServer, controlled
from notnow.language import catalogue

DOCS = Path(__file__).parents[1] / "docs" / "_static"
WAITS = ("1m", "2m", "4m", "8m")  # of a client whose mail is refused, until it is through


def send(fake: Any, name: str) -> None:
    with contextlib.suppress(smtplib.SMTPResponseException), smtplib.SMTP(fake.host, fake.port, timeout=10) as client:
        client.sendmail("shop@x.test", ["anna@y.test"], f"Message-ID: <{name}@x.test>\r\n\r\nYour order\r\n")


def play(fleet: Fleet) -> None:
    """A client with two letters: one goes to the backup at once, the other waits longer and longer."""
    scenarios = {"primary": ("smtp/at-stage", {"stage": "message", "outage": "10m"}), "backup": ("smtp/healthy", {})}
    fakes = {
        name: fleet.start(catalogue.scenario(scenario).with_knobs(**knobs), name=name, group="mail", speed=0).fake
        for name, (scenario, knobs) in scenarios.items()
    }
    send(fakes["primary"], "invoice-1")
    fleet.advance("2s")
    send(fakes["primary"], "invoice-2")
    send(fakes["backup"], "invoice-2")
    for wait in WAITS:
        fleet.advance(wait)
        send(fakes["primary"], "invoice-1")


def shoot(
    browser: Browser, server: ControlServer, file: Path, *, width: int, height: int, scheme: Any, path: str = "/"
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.25
    )
    page = context.new_page()
    page.goto(f"{server.url}{path}")
    if path == "/":
        prepare(page)
    page.screenshot(path=file)
    context.close()
    print(file, file.stat().st_size)


def prepare(page: Page) -> None:
    """Follow a letter, and show what was said at one of its refusals."""
    page.locator("#state-words", has_text="live").wait_for()
    page.locator("#items button", has_text="invoice-1").click()
    page.locator("#lanes .mark.busy").nth(2).click()
    page.locator("#talk h4").wait_for()
    page.mouse.move(5, 400)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(500)


def main(into: Path) -> None:
    with Fleet(seed=7) as fleet, controlled(fleet, "127.0.0.1", 0) as server, sync_playwright() as started:
        play(fleet)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shoot(browser, server, into / "page-light.png", width=1280, height=900, scheme="light")
        shoot(browser, server, into / "page-dark.png", width=1280, height=900, scheme="dark")
        shoot(browser, server, into / "page-phone.png", width=390, height=844, scheme="light")
        shoot(
            browser, server, into / "report.png", width=1000, height=860, scheme="light", path="/v1/verdict?format=html"
        )
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
