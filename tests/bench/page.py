"""From an event to the screen: how long the page of the control API takes to show a 421, with a short journal and a long one.

A client reads its 421; a MutationObserver in the page notes when the mark has been drawn. Both read the wall clock of one
machine. The page is measured in Debian's Chromium, by Playwright.
"""

from __future__ import annotations

import cProfile
import shutil
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.table import Bench, Row, Skip, Target

from notnow.control.fleet import Fleet
from notnow.control.server import controlled
from notnow.language import catalogue
from notnow.servers.base.fake import Fake

CONNECTIONS, NOOPS = 1000, 99  # of the long journal: 100,000 entries
WATCH = """() => {
  window.seen = 0;
  new MutationObserver(() => {
    const marks = document.querySelectorAll("#lanes .mark.busy");
    const last = Math.max(...[...marks].map((mark) => Number(mark.dataset.index)));
    if (last > window.last) { window.last = last; requestAnimationFrame(() => (window.seen = Date.now())); }
  }).observe(document.getElementById("lanes"), { childList: true, subtree: true });
  window.last = Math.max(0, ...[...document.querySelectorAll("#lanes .mark.busy")].map((mark) => Number(mark.dataset.index)));
}"""


@contextmanager
def opened(entries: bool) -> Iterator[tuple[Any, Fake]]:
    """The page, with a server that says 421 to whoever connects; with `entries`, its journal is long."""
    if shutil.which("chromium") is None:
        raise Skip("chromium is not installed: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Skip("playwright is not installed") from None
    with Fleet() as fleet, controlled(fleet, "127.0.0.1", 0) as server, sync_playwright() as started:
        fake = fleet.start(catalogue.scenario("smtp/healthy"), name="mail").fake
        if entries:
            fill(fake)
        fake.play("smtp/overload", outage="1h")
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.url)
        page.locator("#state-words", has_text="live").wait_for()
        page.wait_for_timeout(1000)
        yield page, fake
        browser.close()


def fill(fake: Fake) -> None:
    for _ in range(CONNECTIONS):
        with socket.create_connection((fake.host, fake.port)) as client:
            client.sendall(b"NOOP\r\n" * (NOOPS - 1) + b"QUIT\r\n")
            while client.recv(65536):
                pass


def shown(page: Any, fake: Fake) -> float:
    """Milliseconds from a client's 421 to the frame that shows it."""
    page.evaluate("window.seen = 0")
    with socket.create_connection((fake.host, fake.port)) as client:
        assert client.recv(999).startswith(b"421")
        told = time.time()
    while not (seen := page.evaluate("window.seen")):  # the policy of the page leaves nothing else to wait with
        page.wait_for_timeout(20)
    return float(seen) - told * 1000


def run(entries: bool, quick: bool) -> list[Row]:
    name, what = BOTH[entries]
    with opened(entries) as (page, fake):
        page.evaluate(WATCH)
        took = sorted(shown(page, fake) for _ in range(5 if quick else 30))
        nodes = page.evaluate("document.querySelectorAll('*').length")
    note = (
        f"least {took[0]:.0f} ms, most {took[-1]:.0f} ms; {nodes} elements in the page, {len(fake.journal)} exchanges"
    )
    return [Row(name, what, statistics.median(took), "ms", target=Target("figure", "≤", 100), note=note)]


def profile(into: Path) -> None:
    with opened(True) as (page, fake):
        page.evaluate(WATCH)
        profiler = cProfile.Profile()
        profiler.runcall(shown, page, fake)
        profiler.dump_stats(into)


BOTH = {
    False: ("page", "from a 421 to the screen"),
    True: ("page-long", "from a 421 to the screen, beside 100,000 entries"),
}
BENCHES = tuple(
    Bench(name, what, lambda quick, entries=entries: run(entries, quick), profile)
    for entries, (name, what) in BOTH.items()
)
