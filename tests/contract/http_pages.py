"""Chromium, and pages that have it ask for things: the one client here that coalesces connections (RFC 9113 §9.1.1)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import clients
from clients import PATIENCE
from http_clients import requests

from notnow import FakeHTTP
from notnow.journal import Exchange

HOME, OTHER = "a.site.test", "b.site.test"  # where the page comes from; and one site with it
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--mute-audio", "--password-store=basic",
)  # fmt: skip

PAGE = """<!doctype html><link rel="icon" href="data:,"><script>
const {host, method, size, stream, credentials} = JSON.parse(decodeURIComponent(location.hash.slice(1)));
async function ask() {
  const bytes = size ? new Uint8Array(size).fill(78) : undefined;
  const body = bytes && stream ? new Blob([bytes]).stream() : bytes && new Blob([bytes]);
  const options = {method, credentials, body, ...(stream ? {duplex: "half"} : {})};
  try {
    const response = await fetch(`https://${host}:${location.port}/thing`, options);
    return `${response.status} ${(await response.text()).length}`;
  } catch (error) { return error.name; }
}
ask().then((said) => fetch(`/said/${said}`));
</script>"""


async def site(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The page at `/`, and a word for its scripts everywhere else."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    page = scope["path"] == "/"
    origin = dict(scope["headers"]).get(b"origin", b"null")
    headers = [(b"content-type", b"text/html" if page else b"text/plain"), *allowed(origin)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE.encode() if page else b"served"})


def allowed(origin: bytes) -> list[tuple[bytes, bytes]]:
    """So that scripts of `origin` may read an answer with credentials (CORS)."""
    return [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]


@dataclass(frozen=True)
class Visit:
    """What the script of a page got, and what the fake saw of it."""

    said: str
    asked: list[Exchange]

    @property
    def ends(self) -> list[tuple[str | None, int | None]]:
        """The SNI of the connection, and the status, of each request that it took."""
        return [(x.connection.tls.sni if x.connection.tls else None, x.code) for x in self.asked]


def visit(
    fake: FakeHTTP, folder: Path, host: str = OTHER, *, method: str = "GET", size: int = 0, stream: bool = False,
    credentials: str = "include",
) -> Visit:  # fmt: skip
    """Have Chromium show a page of HOME whose script asks `host` for something, and says what it got."""
    job = json.dumps({"host": host, "method": method, "size": size, "stream": stream, "credentials": credentials})
    with _chromium(fake, folder, f"https://{HOME}:{fake.port}/#{job}"):
        fake.wait_for(lambda j: _said(fake), PATIENCE)
    asked = [x for x in requests(fake) if x.facts and x.facts.path == "/thing"]
    return Visit(unquote(_said(fake)[0]), asked)


def _said(fake: FakeHTTP) -> list[str]:
    paths = [x.facts.path for x in requests(fake) if x.facts]
    return [path.removeprefix("/said/") for path in paths if path.startswith("/said/")]


@contextlib.contextmanager
def _chromium(fake: FakeHTTP, folder: Path, url: str) -> Iterator[None]:
    """It trusts the CA of the fakes and nobody else's, asks no name server, and goes nowhere else."""
    store = folder / ".pki" / "nssdb"
    store.mkdir(parents=True, exist_ok=True)
    for words in (["-N", "--empty-password"], ["-A", "-n", "notnow", "-t", "C,,", "-i", fake.ca_file]):
        done = clients.run("certutil", "-d", f"sql:{store}", *words, folder=folder)
        assert done.returncode == 0, done.stderr
    rules = f"MAP *.site.test {fake.host}:{fake.port}, MAP * ~NOTFOUND"
    where = (f"--host-resolver-rules={rules}", f"--user-data-dir={folder / 'profile'}")
    with clients.started("chromium", *FLAGS, *where, url, folder=folder):
        yield
