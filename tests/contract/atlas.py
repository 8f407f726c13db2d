"""The atlas of clients, docs/clients.md: `python tests/contract/atlas.py > docs/clients.md`.

Plays a few scenarios of each protocol to each stock client, and writes down what came of it, in the words in which
`notnow try` has it. The clients of smtp_clients.py, ftp_clients.py, http_clients.py and atlas_clients.py are in the
atlas; `SETTINGS` has those that are worth a second look with other options. `--only NAME` plays to one client.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import atlas_clients
import clients
import dma
import ftp_clients
import http_clients
import http_pages
import postfix
import programs
import pytest
import smtp_clients
from atlas_page import page
from clients import Client, Report
from tables import Row

from notnow import FakeFTP, FakeHTTP, FakeSMTP, RealClock, Scenario
from notnow.conduct import judging
from notnow.conduct.pictures import verdict
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.result import Exit, Result, result
from notnow.conduct.reading.run import Run
from notnow.journal import Exchange
from notnow.units import show

Fake = FakeSMTP | FakeFTP | FakeHTTP
PROTOCOLS = {
    "smtp": {**smtp_clients.CLIENTS, **atlas_clients.SMTP},
    "ftp": {**ftp_clients.CLIENTS, **atlas_clients.FTP},
    "http": {**http_clients.CLIENTS, **atlas_clients.HTTP},
}
GUEST = "127.0.0.2"  # who has the place where there is only one, until OUTAGE is over
OUTAGE = 5  # scenario seconds

# The scenario and its knobs, and the way of doing it, as in the tables of the contract tests.
SCENARIOS = [
    Row(protocol, title, way, "", {})
    for protocol, title, way in (
        ("smtp", f"overload outage={OUTAGE}s", "none"),
        ("smtp", f"at-stage stage=mail outage={OUTAGE}s", "none"),
        ("smtp", f"at-stage stage=message outage={OUTAGE}s", "none"),
        ("smtp", "accepted-then-421", "none"),
        ("smtp", f"bare-close outage={OUTAGE}s", "none"),
        ("ftp", f"overload outage={OUTAGE}s", "get"),
        ("ftp", "too-many-users cap=1", "get"),
        ("ftp", "kicked", "get"),
        ("ftp", "killed-mid-download", "get"),
        ("ftp", "killed-mid-upload", "put"),
        ("ftp", "accepted-then-421", "get"),
        ("http", "misdirected-times", "get"),
        ("http", "misdirected-post", "post"),
        ("http", f"overload outage={OUTAGE}s", "get"),
        ("http", "goaway-mid-request", "get"),
        ("http", "stream-reset", "get"),
        ("http", "stream-reset", "post quick"),
    )
]


@dataclass(frozen=True)
class Entry:
    """A client of the atlas, and how it is set.

    `options` are further words of its command line or settings, `way` further words for how it does its job. What it
    does is read on a clock `speed` times as fast as its own: so is a back-off whose settings are so many times too
    short. `items` is how many it is given to get through, as `--count` says it. A `slow` one takes
    minutes, and goes on while others are played to.
    """

    protocol: str
    client: Client[Any]
    label: str = ""
    options: tuple[str, ...] = ()
    way: str = ""
    speed: float = 1.0
    items: int = 1
    slow: bool = False

    @property
    def name(self) -> str:
        return self.label or self.client.name

    def plays(self, row: Row) -> bool:
        cannot = self.client.cannot & {row.title.split()[0]}
        return row.protocol == self.protocol and not cannot and row.plays(self.client)


# See `attempt`. A page that comes with a 503 has no script that could say anything.
CHROMIUM: Client[Any] = Client(
    "Chromium", lambda job: Report(""), "chromium", "chromium", cannot=frozenset({"overload"})
)


def _settings() -> Iterator[Entry]:
    """Those that differ from how the contract tests have them: as delivered, or with a label that says what was set."""
    ftp, http = PROTOCOLS["ftp"], PROTOCOLS["http"]
    yield Entry("smtp", atlas_clients.SMTP["dma"], slow=True)
    yield Entry("ftp", ftp["curl"], "curl --retry 3", ("--retry", "3"))
    yield Entry(
        "ftp", ftp["lftp"], speed=30,  # the wait of a second, where 30 are its own
        options=("set net:max-retries 1000", "set net:reconnect-interval-multiplier 1.5"),
    )  # fmt: skip
    yield Entry("ftp", ftp["wget"], options=("--tries=20", "--waitretry=10"))
    yield Entry("http", http["curl"], "curl --retry 2", way="retry")
    yield Entry("http", http["requests"], "requests, Retry(3)", way="retry")
    yield Entry("http", CHROMIUM, items=3)  # the page, what its script asks for, and what that says of it


SETTINGS = tuple(_settings())

# What a fake serves to those that can do nothing with its own pages.
APPS = {CHROMIUM.name: http_pages.site, "boto3": atlas_clients.service, "openai": atlas_clients.service}


def entries(relay: postfix.Postfix | None = None) -> list[Entry]:
    """Everybody; Postfix where there is one, with a back-off of 10 s where 300 are its own."""
    found = []
    for protocol, everybody in PROTOCOLS.items():
        set_otherwise = [entry for entry in SETTINGS if entry.protocol == protocol]
        names = {entry.name for entry in set_otherwise}
        items = len(smtp_clients.Job.recipients) if protocol == "smtp" else 1
        found += [Entry(protocol, c, items=items) for c in everybody.values() if c.name not in names] + set_otherwise
    if relay is not None:
        found.append(Entry("smtp", postfix_client(relay), speed=30))
    return found


def postfix_client(relay: postfix.Postfix) -> Client[smtp_clients.Job]:
    """Postfix reports in its log what became of each attempt."""

    def do(job: smtp_clients.Job) -> Report:
        message = relay.send([job.port], job.recipients[:1])
        relay.wait_until_gone(message)
        seen = relay.statuses(message)
        return Report(", ".join(status.what for status in seen), "\n".join(status.text for status in seen))

    return Client("Postfix", do, "postfix", "postfix")


# ---- a client meets a scenario ----------------------------------------------------------------------


@dataclass(frozen=True)
class Again:
    """The client tried again: after so many seconds, on another connection or on the same one."""

    delay: float
    new: bool


@dataclass(frozen=True)
class Played:
    """What came of it. `differs`: it is delivered, but the file is not the same on both sides."""

    entry: Entry
    row: Row
    said: str
    again: tuple[Again, ...]
    result: Result
    differs: bool = False
    broken: tuple[judging.Verdict, ...] = ()

    @property
    def outcome(self) -> str:
        return f"{self.result.word}, but the file differs" if self.differs else self.result.word

    @property
    def when(self) -> str:
        """How long it waited each time, as exactly as a clock of that speed can tell."""
        speed = self.entry.speed
        waits = [show(round(a.delay / speed) * speed) for a in self.again]
        return ", ".join("at once" if wait == "0s" else wait for wait in waits[:4]) + (", …" if waits[4:] else "")

    @property
    def where(self) -> str:
        return "/".join(word for word, new in (("new", True), ("same", False)) if new in {a.new for a in self.again})


def play(entry: Entry, row: Row) -> Played:
    """Have a client do its job under a scenario, and judge it as `notnow try --accept reported --count N` does."""
    # What Chromium has started may still be writing when Chromium has ended.
    home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with home, fake_of(entry, row, row.scenario) as fake, _guest(entry, row, fake):
        folder = Path(home.name)
        try:
            report = attempt(entry, row, fake, folder)
            how = ended(report.said)
        except (subprocess.TimeoutExpired, TimeoutError):
            report, how = Report(f"nothing in {clients.PATIENCE} s"), Exit(hung=True)
            fake.settle()
        run = Run([fake.journal], [fake.scenario])
        found = result(run.ledger, how, entry.items)
        broken = verdict.offenders(judging.judge(run, accepted="reported" if found.word == "reported" else ""))
        differs = found.word == "delivered" and isinstance(fake, FakeFTP) and _differs(row, fake, folder)
        return Played(entry, row, report.said, _again(run), found, differs, tuple(broken))


def ended(said: str) -> Exit:
    """How the client ended: its exit code, or 1 for what a library says instead of "done"."""
    if said.split(", ")[-1] in (smtp_clients.SENT, http_clients.DONE):
        return Exit(0)
    code = re.fullmatch(r"exit (-?\d+)", said)
    return Exit(int(code[1])) if code else Exit(1, said)


def fake_of(entry: Entry, row: Row, scenario: str | Scenario) -> Fake:
    """The fake for a client and a way of doing its job."""
    clock = RealClock(speed=entry.speed)
    if row.protocol == "smtp":
        return FakeSMTP(scenario, clock=clock, **row.knobs)
    if row.protocol == "ftp":
        return FakeFTP(scenario, clock=clock, **row.knobs)
    app = {"app": APPS[entry.name]} if entry.name in APPS else {}
    return FakeHTTP(scenario, clock=clock, **app, **row.knobs)


@contextlib.contextmanager
def _guest(entry: Entry, row: Row, fake: Fake) -> Iterator[None]:
    """Somebody has the only place, and leaves when the outage of other scenarios would be over."""
    if "cap" not in row.knobs:
        yield
        return
    guest = socket.create_connection((fake.host, fake.port), source_address=(GUEST, 0))
    guest.recv(1000)
    leaving = threading.Timer(OUTAGE / entry.speed, guest.close)
    leaving.start()
    try:
        yield
    finally:
        leaving.cancel()
        leaving.join()
        guest.close()


def attempt(entry: Entry, row: Row, fake: Any, folder: Path) -> Report:
    way, more = f"{row.way} {entry.way}".strip(), {"options": entry.options} if entry.options else {}
    if entry.client is CHROMIUM:
        post = {"method": "POST", "size": 1_000} if row.way.startswith("post") else {}
        said = http_pages.visit(fake, folder, http_pages.HOME, **post).said
        fake.settle()
        status = said.split()[0]
        return Report(http_clients.DONE if status == "200" else f"got {status}" if status.isdecimal() else said)
    if row.protocol == "smtp":
        return smtp_clients.attempt(entry.client, fake, row.way, **more)  # type: ignore[arg-type]
    module: Any = {"ftp": ftp_clients, "http": http_clients}[row.protocol]
    report: Report = module.attempt(entry.client, fake, folder, way, **more)
    return report


def _again(run: Run) -> tuple[Again, ...]:
    """Each new try; one that was refused before it named its item is taken for one of the only item."""
    found: dict[Exchange, Again] = {}
    nameless = None
    for one in run.ledger.tries:
        before = one.earlier or nameless
        if before is not None and one.knew_of(before) and not _looks_again(before):
            again = Again(one.started_at - before.ended_at, one.connection is not before.connection)
            found.setdefault(one.began, again)
        if one.connection.client != GUEST:
            nameless = one if one.item is None else None
    return tuple(found.values())


def _looks_again(before: Try) -> bool:
    """True if the item had come through, and may be got again: that is another piece of it, or another look."""
    return before.ending == "accepted" and before.item is not None and before.item.repeatable


def _differs(row: Row, fake: FakeFTP, folder: Path) -> bool:
    """True if the file of the client and that of the server are not the same: a journal does not show the client's."""
    name = ftp_clients.NAMES["put" if row.way == "put" else "get"]
    there, here = fake.files.get(name), folder / name
    return there is None or not here.exists() or here.read_bytes() != there


# ---- versions ---------------------------------------------------------------------------------------


def version(client: Client[Any]) -> str:
    """Exactly; of a library of Python's own it is Python's. `httpx-async` is of the distribution httpx."""
    if client.name in VERSIONS:
        return VERSIONS[client.name]()
    if client.module:
        places = [Path(place, client.module) for place in programs.NODE_PATH.split(os.pathsep)]
        package = next(place for place in places if place.is_dir()) / "package.json"
        return _number(re.search(r'"version": *"([^"]*)"', package.read_text())[0])  # type: ignore[index]
    if client.program:
        return _number(clients.run(client.program, "--version").stdout)
    try:
        return metadata.version(client.name.removesuffix("-async"))
    except metadata.PackageNotFoundError:
        return f"{platform.python_implementation()} {platform.python_version()}"


def _number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "unknown"


VERSIONS: dict[str, Callable[[], str]] = {
    "Postfix": lambda: clients.run("postconf", "-h", "mail_version").stdout.strip(),
    "PHPMailer": lambda: _number(
        atlas_clients.PHPMAILER.joinpath("src", "SMTP.php").read_text().partition("const VERSION")[2]
    ),
    "dma": dma.version,
}


# ---- all of it --------------------------------------------------------------------------------------


def play_all(everybody: Sequence[Entry], tell: Callable[[str], None] = lambda line: None) -> str:
    """Play everything to everybody who is installed, and give the page."""
    present = [entry for entry in everybody if _is_there(entry, tell)]
    versions = {entry.name: version(entry.client) for entry in present}
    rows = [(entry, row) for entry in present for row in SCENARIOS if entry.plays(row)]

    def told(entry: Entry, row: Row) -> Played:
        played = play(entry, row)
        tell(f"{entry.name} {versions[entry.name]}, {row.scenario}: {played.said}, {played.outcome}")
        return played

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        slow = {(entry, row.title): pool.submit(told, entry, row) for entry, row in rows if entry.slow}
        quick = {n: told(entry, row) for n, (entry, row) in enumerate(rows) if not entry.slow}
        results = [quick.get(n) or slow[entry, row.title].result() for n, (entry, row) in enumerate(rows)]
    return page(results, versions)


def _is_there(entry: Entry, tell: Callable[[str], None]) -> bool:
    try:
        clients.need(entry.client)
    except pytest.skip.Exception as missing:
        tell(f"left out: {missing}")
        return False
    return True


def main() -> int:
    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    parser = argparse.ArgumentParser(description="Make docs/clients.md, or the part of it that is about one client.")
    parser.add_argument("--only", metavar="NAME", help="play to this client only")
    name: str | None = parser.parse_args().only
    with contextlib.ExitStack() as stack:
        relay = None
        try:
            programs.need("postfix", "postfix")
            programs.need_root("Postfix is started and stopped by root only")
            relay = stack.enter_context(postfix.running(FakeSMTP().ca_file, backoff=10))
        except pytest.skip.Exception as missing:
            tell(f"left out: {missing}")
        everybody = entries(relay)
        chosen = [entry for entry in everybody if name in (None, entry.name, entry.client.name)]
        if not chosen:
            tell(f"no client {name!r}; there are {', '.join(dict.fromkeys(entry.name for entry in everybody))}")
            return 2
        try:
            print(play_all(chosen, tell), end="")
        except pytest.fail.Exception as missing:
            tell(str(missing))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
