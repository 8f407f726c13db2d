"""The atlas of clients, docs/clients.md: `python tests/contract/atlas.py > docs/clients.md`.

Plays a few scenarios of each protocol to each stock client, and writes down what came of it. Whoever is in `CLIENTS` of
smtp_clients.py, ftp_clients.py or http_clients.py is in the atlas; `SETTINGS` has those that the contract tests do not
use as they are delivered, or that are worth a second look with other options.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import clients
import ftp_clients
import http_clients
import http_pages
import postfix
import programs
import pytest
import smtp_clients
from clients import Client, Report
from tables import Row

from notnow import FakeFTP, FakeHTTP, FakeSMTP, RealClock
from notnow.conduct import judging
from notnow.conduct.finding import Evidence
from notnow.conduct.pictures import verdict
from notnow.conduct.reading import attempts
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange
from notnow.units import show, times

Fake = FakeSMTP | FakeFTP | FakeHTTP
PROTOCOLS = {"smtp": "SMTP", "ftp": "FTP", "http": "HTTP"}
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
    short.
    """

    protocol: str
    client: Client[Any]
    label: str = ""
    options: tuple[str, ...] = ()
    way: str = ""
    speed: float = 1.0

    @property
    def name(self) -> str:
        return self.label or self.client.name

    def plays(self, row: Row) -> bool:
        cannot = self.client.cannot & {row.title.split()[0]}
        return row.protocol == self.protocol and not cannot and row.plays(self.client)


# See `_attempt`. A page that comes with a 503 has no script that could say anything.
CHROMIUM: Client[Any] = Client(
    "Chromium", lambda job: Report(""), "chromium", "chromium", cannot=frozenset({"overload"})
)


def _settings() -> Iterator[Entry]:
    """Those that differ from how the contract tests have them: as delivered, or with a label that says what was set."""
    ftp, http = ftp_clients.CLIENTS, http_clients.CLIENTS
    yield Entry("ftp", ftp["curl"], "curl --retry 3", ("--retry", "3"))
    yield Entry(
        "ftp", ftp["lftp"], speed=30,  # the wait of a second, where 30 are its own
        options=("set net:max-retries 1000", "set net:reconnect-interval-multiplier 1.5"),
    )  # fmt: skip
    yield Entry("ftp", ftp["wget"], options=("--tries=20", "--waitretry=10"))
    yield Entry("http", http["curl"], "curl --retry 2", way="retry")
    yield Entry("http", CHROMIUM)


SETTINGS = tuple(_settings())


def entries(relay: postfix.Postfix | None = None) -> list[Entry]:
    """Everybody; Postfix where there is one, with a back-off of 10 s where 300 are its own."""
    found = []
    for protocol, module in (("smtp", smtp_clients), ("ftp", ftp_clients), ("http", http_clients)):
        set_otherwise = [entry for entry in SETTINGS if entry.protocol == protocol]
        names = {entry.name for entry in set_otherwise}
        found += [Entry(protocol, c) for c in module.CLIENTS.values() if c.name not in names] + set_otherwise
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
class Result:
    """What came of it."""

    entry: Entry
    row: Row
    said: str
    again: tuple[Again, ...]
    outcome: str
    broken: tuple[judging.Verdict, ...] = field(default=())

    @property
    def when(self) -> str:
        """How long it waited each time, as exactly as a clock of that speed can tell."""
        speed = self.entry.speed
        waits = [show(round(a.delay / speed) * speed) for a in self.again]
        return ", ".join("at once" if wait == "0s" else wait for wait in waits[:4]) + (", …" if waits[4:] else "")

    @property
    def where(self) -> str:
        return "/".join(word for word, new in (("new", True), ("same", False)) if new in {a.new for a in self.again})


def play(entry: Entry, row: Row) -> Result:
    """Have a client do its job under a scenario, and read what the fake and the disk have of it."""
    # What Chromium has started may still be writing when Chromium has ended.
    home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with home, _fake(entry, row) as fake, _guest(entry, row, fake):
        folder = Path(home.name)
        ended = True
        try:
            report = _attempt(entry, row, fake, folder)
        except (subprocess.TimeoutExpired, TimeoutError):
            report, ended = Report(f"nothing in {clients.PATIENCE} s"), False
            fake.settle()
        exchanges = [x for x in fake.journal.exchanges if x.connection.client != GUEST]
        run = Run([fake.journal], [fake.scenario])
        broken = tuple(verdict.offenders(judging.judge(run)))
        copies = _copies(row, fake, exchanges, folder)
        again = _again(row, run, exchanges)
        return Result(entry, row, report.said, again, _outcome(report.said, ended, copies), broken)


def _fake(entry: Entry, row: Row) -> Fake:
    clock = RealClock(speed=entry.speed)
    if row.protocol == "smtp":
        return FakeSMTP(row.scenario, clock=clock, **row.knobs)
    if row.protocol == "ftp":
        return FakeFTP(row.scenario, clock=clock, **row.knobs)
    app = {"app": http_pages.site} if entry.client is CHROMIUM else {}
    return FakeHTTP(row.scenario, clock=clock, **app, **row.knobs)


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


def _attempt(entry: Entry, row: Row, fake: Any, folder: Path) -> Report:
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


def _again(row: Row, run: Run, exchanges: Sequence[Exchange]) -> tuple[Again, ...]:
    """Where nothing was answered the journal of HTTP has no refusal: there it is the same request that tells."""
    if row.protocol != "http":
        found = [(r.refusal, r.attempt, r.delay) for r in attempts.retries(exchanges)]
    else:
        pairs = [pair for tries in run.tries for pair in itertools.pairwise(tries)]
        found = [(a, b, b.at - (a.at if a.answered_at is None else a.answered_at)) for a, b in pairs]
    return tuple(Again(delay, b.connection is not a.connection) for a, b, delay in found)


def _copies(row: Row, fake: Fake, exchanges: Sequence[Exchange], folder: Path) -> int:
    """How often it has come through: what is got again and again does no harm, and counts once."""
    if isinstance(fake, FakeFTP):
        name = ftp_clients.NAMES["put" if row.way == "put" else "get"]
        there, here = fake.files.get(name), folder / name
        if there is None or not here.exists() or here.read_bytes() != there:
            return 0
    asked = [x for x in exchanges if row.protocol != "http" or (x.facts and x.facts.path == http_clients.PATH)]
    items = [item for item in attempts.items(asked) if item.completed]
    return max((1 if item.repeatable or row.way == "get" else len(item.completed) for item in items), default=0)


WORDS = {
    "through": "it came through, once, and the client says so",
    "told": "it did not come through, and the client says so: the caller may try again",
    "false alarm": "it came through, but the client says that it did not: a caller who tries again makes a second copy",
    "lost": "it did not come through, and the client says that it did",
    "doubled": "it came through more than once: a message stored, a file uploaded, a POST carried out",
    "no end": f"the client was still at it after {clients.PATIENCE} seconds, and was ended; it had not come through",
}


def _outcome(said: str, ended: bool, copies: int) -> str:
    good = said.split(", ")[-1] in (smtp_clients.SENT, http_clients.DONE)
    words = ("through", "lost") if good else ("false alarm", "told")
    if not ended:
        words = ("no end, through", "no end")
    return f"{words[0]}, doubled ({copies})" if copies > 1 else words[0 if copies else 1]


# ---- versions ---------------------------------------------------------------------------------------


def version(client: Client[Any]) -> str:
    """Exactly; of a library of Python's own it is Python's. `httpx-async` is of the distribution httpx."""
    if client.program == "postfix":
        return clients.run("postconf", "-h", "mail_version").stdout.strip()
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


def need(client: Client[Any]) -> None:
    """As in the contract tests: who is not installed is left out, and with CI=true that is an error."""
    if client.program:
        programs.need(client.program, client.package)
    if client.module:
        programs.need_module(client.module)


# ---- the page ---------------------------------------------------------------------------------------

HEAD = """\
<!-- Generated by `python tests/contract/atlas.py > docs/clients.md`; change that file, not this one. -->

# The atlas of clients

What stock clients do when a server says "not now": {count} clients, each as it is delivered unless its name says what was
set, each of them played against the scenarios of {doc}`the catalogue <generated/catalogue/index>` that matter most to its
protocol. All of it was seen in real runs; nothing is from documentation.

## How to read it

The first table of each protocol says how it ended:

{words}

One table for each scenario says more. *Said* is what the 421, or its neighbour, surfaced as: an exit code, the exception
(with the reply code that it carries), the status, or what the log has of each attempt. *Tried again* is what the client
did by itself, and how long it waited; *on* says whether that was on a new connection or on the same one. *Rules broken*
are {doc}`rules of conduct <how-to/judge>` with their level; `notnow conduct ID` explains one. A library or a program
that sends once and tells its caller leaves trying again to the caller: where it says *told* and did not try again,
`smtp.tries-again` and `smtp.silent-close` say what that caller has to do, and no more. A dash: the client cannot do what
the scenario is about.

Two clients wait longer than anybody wants to: Postfix (five minutes at least) and lftp (half a minute). Their settings were
made 30 times shorter, and the fake's clock 30 times as fast; the times are those of the settings as they are delivered,
give or take the half minute that is a second of theirs. Who is sending when the connection is cut may notice it by the 421,
or by the connection: there the next run may have another word, and curl's `--retry` another outcome. lftp, which resumes a cut upload and sends
no more of it than its buffer holds, either ends with 0, the file being a wrong one, or never.

## How to add a client

Write a function from `Job` to `Report`, and name it in `CLIENTS`: `Client("name", function, "program", "debian-package")`.
The file is `tests/contract/smtp_clients.py`, `tests/contract/ftp_clients.py` or `tests/contract/http_clients.py`. The contract
tests play their scenarios to it from then on, and the next run of `NODE_PATH=DIR/node_modules python tests/contract/atlas.py > docs/clients.md` (as root,
for Postfix; with `CI=true`, a client that is missing is an error) has a row for it in each table. A client with other
options is an `Entry` in `SETTINGS` of `tests/contract/atlas.py`.
"""


def page(results: Sequence[Result], versions: Mapping[str, str]) -> str:
    """The atlas, in Markdown."""
    words = "\n".join(f"- **{word}**: {meaning}." for word, meaning in WORDS.items())
    count = len({(r.entry.protocol, r.entry.client.name) for r in results})
    parts = [HEAD.replace("{count}", str(count)).replace("{words}", words)]
    for protocol, title in PROTOCOLS.items():
        own = [r for r in results if r.row.protocol == protocol]
        if own:
            parts += [f"## {title}", _overview(own, versions), *_scenarios(own)]
    parts += [
        "## The rules that were broken",
        "Of each the first that broke it, and what proves it.",
        *_proofs(results),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _heading(row: Row) -> str:
    return f"{row.title} ({row.way.split()[0]})" if row.protocol != "smtp" else row.title


def _overview(own: Sequence[Result], versions: Mapping[str, str]) -> str:
    rows = list(dict.fromkeys(_heading(r.row) for r in own))
    cells: dict[str, dict[str, str]] = {}
    for r in own:
        cells.setdefault(r.entry.name, {})[_heading(r.row)] = r.outcome
    lines = [[name, versions[name], *(found.get(row, "–") for row in rows)] for name, found in cells.items()]
    return table(["client", "version", *(f"`{row}`" for row in rows)], lines)


def _scenarios(own: Sequence[Result]) -> Iterator[str]:
    by_row: dict[str, list[Result]] = {}
    for r in own:
        by_row.setdefault(_heading(r.row), []).append(r)
    for heading, found in by_row.items():
        yield f"### `{found[0].row.protocol}/{heading}`"
        lines = [[r.entry.name, r.said, _how_often(r), r.where or "–", r.outcome, _ids(r)] for r in found]
        yield table(["client", "said", "tried again", "on", "outcome", "rules broken"], lines)


def _how_often(r: Result) -> str:
    return f"{times(len(r.again))}: {r.when}" if r.again else "no"


def _ids(r: Result) -> str:
    return ", ".join(f"`{v.rule.id}` ({v.rule.level})" for v in r.broken) or "–"


def _proofs(results: Sequence[Result]) -> Iterator[str]:
    seen: dict[str, list[tuple[Result, judging.Verdict]]] = {}
    for r in results:
        for v in r.broken:
            seen.setdefault(v.rule.id, []).append((r, v))
    for found in seen.values():
        r, v = found[0]
        names = ", ".join(dict.fromkeys(f"{result.entry.name}" for result, _ in found))
        proofs = "\n".join(f"- `{_proof(e)}`" for e in v.finding.evidence[:4])
        yield f"**`{v.rule.id}`** ({v.rule.level}; {v.rule.source}): {v.rule.title} Broken by {names}."
        yield f"{r.entry.name} in `{r.row.scenario}`: {v.finding.why}.\n\n{proofs}"


def _proof(evidence: Evidence) -> str:
    """In a line; of a connection what was said on it when it had ended."""
    after = evidence.after.splitlines() if isinstance(evidence, Connection) else []
    said = f", and the client said after its end: {', '.join(after)}" if after else ""
    return verdict.proof(evidence) + said


# ---- all of it --------------------------------------------------------------------------------------


def generate(everybody: Sequence[Entry], tell: Callable[[str], None] = lambda line: None) -> str:
    """Play everything to everybody who is installed, and give the page."""
    results: list[Result] = []
    versions: dict[str, str] = {}
    for entry in everybody:
        try:
            need(entry.client)
        except pytest.skip.Exception as missing:
            tell(f"left out: {missing}")
            continue
        versions[entry.name] = version(entry.client)
        for row in filter(entry.plays, SCENARIOS):
            results.append(play(entry, row))
            tell(f"{entry.name} {versions[entry.name]}, {row.scenario}: {results[-1].said}, {results[-1].outcome}")
    return page(results, versions)


def main() -> int:
    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    with contextlib.ExitStack() as stack:
        relay = None
        try:
            programs.need("postfix", "postfix")
            programs.need_root("Postfix is started and stopped by root only")
            relay = stack.enter_context(postfix.running(FakeSMTP().ca_file, backoff=10))
        except pytest.skip.Exception as missing:
            tell(f"left out: {missing}")
        try:
            print(generate(entries(relay), tell), end="")
        except pytest.fail.Exception as missing:
            tell(str(missing))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
