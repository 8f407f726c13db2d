"""What must hold after any input: replies are well-formed, the journal agrees with the wire, and reports can be made of it."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

from notnow.bounds import TEXT
from notnow.chaos.replay import making
from notnow.chaos.replay.recording import ReplayError
from notnow.conduct import reporting
from notnow.conduct.judging import of_protocol
from notnow.conduct.pictures import html, markdown, text
from notnow.conduct.pictures.report import Client, Report, as_dict, junit
from notnow.journal import Journal
from notnow.journal.transport import pack, unpack
from notnow.language.loading import loads
from notnow.servers.base.fake import Fake

REPLY = re.compile(rb"(?:([1-5]\d\d)-[^\0-\x1f]*\r\n(?:(?!\1 )[^\0-\x1f]*\r\n)*)?([1-5]\d\d)(?: [^\0-\x1f]*)?\r\n")
PRINTABLE = re.compile(r"[\n\u2066-\u2069]")  # what a report has besides printable characters


def codes(heard: bytes) -> list[int]:
    """The codes of the replies of SMTP or FTP; all that was heard are whole replies (RFC 5321 §4.2, RFC 959 §4.2)."""
    found: list[int] = []
    at = 0
    while at < len(heard):
        reply = REPLY.match(heard, at)
        assert reply is not None, f"no reply: {bytes(heard[at : at + 200])!r}"
        assert reply[1] in (None, reply[2]), f"two codes in one reply: {reply[0]!r}"
        found.append(int(reply[2]))
        at = reply.end()
    return found


def agrees(journal: Journal, heard: bytes) -> None:
    """The client of the one connection heard the replies of the journal, and no others.

    They came in the order of the journal, but for replies to a STAT or an ABOR during a transfer, which come before its 226.
    """
    kept, told = [code for x in journal.connections[0].exchanges for code in x.codes], codes(heard)
    moved = {226, 426, 211, 213, 225, 500} if 150 in told or 125 in told else set()
    settled = [[code for code in found if code not in moved] for found in (kept, told)]
    assert settled[0] == settled[1], f"the journal has {kept}, and the client heard {told}"
    assert sorted(kept) == sorted(told), f"the journal has {kept}, and the client heard {told}"


def readable(fake: Fake, *, draws: bool) -> None:
    """The journal can be written, read, judged and replayed; with `draws`, shown in every form as well."""
    journal = fake.journal
    for entry in journal.as_dicts():
        for name in ("request", "reply"):
            assert len(str(entry.get(name) or "")) < 3 * TEXT, f"{name} is not cut"
    lines = io.StringIO()
    journal.export(lines)
    replayed(lines.getvalue().encode("utf-8", "surrogateescape"), ours=True)
    assert len(unpack(json.loads("".join(pack(journal))), fake.clock)) == len(journal)
    report = judged(fake)
    if draws:
        shown(report)


def judged(fake: Fake) -> Report:
    rules = of_protocol(fake.protocol)
    served = {"seed": 1, "protocol": fake.protocol, "name": fake.name, "scenario": "fuzz", "url": "x"}
    terms = reporting.Terms(rules, ("must", "should", "advice"))
    return reporting.report([fake], Client((), None), [served], 1.0, terms)


def replayed(recording: bytes, *, ours: bool = False) -> None:
    """`notnow replay`: refused with a reason, or a scenario that loads; where the journal is `ours`, it does not fail to load."""
    try:
        made = making.made(io.BytesIO(recording), "fuzz.jsonl")
    except ReplayError as error:
        assert not ours or "makes no scenario" not in str(error), str(error)
        return
    loads(made.toml)


def shown(report: Report) -> None:
    """Nothing that a client says gets out of its place in a report."""
    for plain in (text.as_text(report, verbose=True), markdown.page(report)):
        assert PRINTABLE.sub("", plain).isprintable(), "a control character in a report"
    json.dumps(as_dict(report))
    junit([report])
    _Page().feed(html.page(report))


class _Page(HTMLParser):
    """A page without a tag or an attribute of the client's: corpora have `<fuzz>` and `onfuzz=` in every place."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "fuzz", "a client's text is markup"
        assert not any(name.startswith("on") for name, _ in attrs), f"a handler in <{tag}>"
