"""Playbooks of conduct: a journal written by hand in a few lines, and what a rule says of it. No sockets.

    play = Play("smtp")
    play.connect("MAIL FROM:<a@x> -> !421 no", "QUIT")
    play.wait("1m")
    play.connect()
    play.held("smtp.wait-before-retry", "it waited at least 1m")

`connect` opens a connection and plays its lines. A line is one of these:

    RCPT TO:<b@y>               the client says it, and gets the healthy reply
    RCPT TO:<b@y> -> 250 ok     it gets this reply
    RCPT TO:<b@y> -> !450 no    a rule of the scenario replies; 421 closes, unless it ends with "(stays)"
    RCPT TO:<b@y> -> !          a rule closes the connection without a reply
    RCPT TO:<b@y> -> …          a rule keeps the client waiting
    RCPT TO:<b@y> -> (30s) 250  the reply comes after 30 seconds
    RCPT TO:<b@y> -> 250 | 421  two replies, or two lines of one
    -> !421 busy                the greeting, as the first line
    [idle] -> !421 timeout      the fake says it unasked: the moment is idle, enter or error
    [tls] localhost             a rule acts in the handshake of a client that names this host
    STOR a.bin {bytes=500}      facts of the exchange
    (early 2s) RSET -> 250 ok   it arrived 2 seconds ago, while the reply to the command before it was due
    (with) RCPT TO:<b@y>        it arrived in one piece with the command before it
    (unread) RSET               the client says it while the fake stalls
    . <1@x> -> !451 no          a message: with its Message-ID, and stored if the reply is 2yz (or `{stored=true}`)
    [body] <1@x> -> !421 no     a message that a rule cut in the middle
    (1m)                        time passes
    (leaves)                    the client closes
    (closes)                    the fake closes
    (stopped)                   the fake is stopped, and says 421

What the client says after the fake has closed is noted as such. Each rule is judged as `notnow.conduct.judging` does.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from msgspec import convert

from notnow import ManualClock
from notnow.conduct.finding import Evidence, Finding
from notnow.conduct.judging import judge, select
from notnow.conduct.reading.run import Run
from notnow.journal import (
    AltSvcFrame,
    Arrival,
    Connection,
    Exchange,
    Facts,
    Failure,
    Frame,
    GoAwayFrame,
    Message,
    OriginFrame,
    Recorder,
    Request,
    RstStreamFrame,
    Target,
    Transfer,
)
from notnow.units import parse_duration

_LINE = re.compile(r"(?P<request>.*?)(?: *\{(?P<facts>.*)\})?(?: *-> *(?P<reply>.*))?")
_ARRIVES = re.compile(r"\((early|with|unread)(?: ([^)]*))?\) *(.*)")
_REPLY = re.compile(r"(?:\((?P<late>[^)]*)\) *)?(?P<rule>!?)(?P<text>.*?)(?P<stays> \(stays\))?")
_HEALTHY = {
    "smtp": {"connect": "220 hello", "data": "354 go on", "quit": "221 bye"},
    "ftp": {
        "connect": "220 hello",
        "user": "331 password",
        "pass": "230 welcome",
        "quit": "221 bye",
        "type": "200 ok",
        "rnfr": "350 go on",
        "rest": "350 go on",
    },
    "http": {"request": "200 OK"},
}
START = 1000.0  # scenario seconds: a run need not begin with the clock
_TEXTS = frozenset({"version", "retry-after", "sha256"})  # facts that look like numbers
_TARGETS = ("dele", "rnfr", "rnto", "size", "mdtm", "mfmt", "mlst", "mkd", "rmd", "cwd")
_UPLOADS, _LISTINGS = ("stor", "appe", "stou"), ("list", "nlst", "mlsd")


class Play:
    """A run of clients against fakes of one protocol that share a clock; `servers` are their names, the preferred first."""

    def __init__(self, protocol: str, *servers: str) -> None:
        self.protocol, self.clock = protocol, ManualClock()
        self.clock.advance(START)
        self.recorders = [Recorder(self.clock, server=name, protocol=protocol) for name in servers or [protocol]]
        self.journals = [recorder.journal for recorder in self.recorders]

    def wait(self, span: str | float) -> Play:
        self.clock.advance(span)
        return self

    def connect(self, *lines: str, client: str = "192.0.2.1", server: int = 0, **tls: Any) -> Line:
        """A client connects to one of the servers; `tls` are fields of `TLS`."""
        return Line(self, self.recorders[server], client, tls).says(*lines)

    @property
    def run(self) -> Run:
        return Run(self.journals)

    def find(self, rule: str) -> Finding:
        ((verdict),) = judge(self.run, select([rule]))
        return verdict.finding

    def held(self, rule: str, why: str) -> None:
        finding = self.find(rule)
        assert (finding.outcome, finding.why) == ("held", why), finding

    def broken(self, rule: str, why: str, *evidence: str) -> None:
        """`evidence` is `#1 RCPT TO:<b@y>` for an exchange (its moment if nothing was asked), `#1` for a connection."""
        finding = self.find(rule)
        assert (finding.outcome, finding.why) == ("broken", why), finding
        assert tuple(map(named, finding.evidence)) == evidence

    def inconclusive(self, rule: str, why: str, settled_by: str = "", *evidence: str) -> None:
        """`settled_by` and `evidence` are compared where they are given."""
        finding = self.find(rule)
        assert (finding.outcome, finding.why) == ("inconclusive", why), finding
        assert not settled_by or finding.settled_by == settled_by
        assert not evidence or tuple(map(named, finding.evidence)) == evidence

    def not_exercised(self, rule: str, why: str = "") -> None:
        finding = self.find(rule)
        assert (finding.outcome, finding.why) == ("not exercised", why), finding


def named(evidence: Evidence) -> str:
    connection = evidence if isinstance(evidence, Connection) else evidence.connection
    server = connection.server if connection.server != connection.journal.protocol else ""
    said = [evidence.request or evidence.moment] if isinstance(evidence, Exchange) else []
    return " ".join([*([server] if server else []), f"#{connection.number}", *said])


class Line:
    """A connection, told line by line."""

    def __init__(self, play: Play, recorder: Recorder, client: str, tls: dict[str, Any]) -> None:
        self.play, self.recorder = play, recorder
        self.connection = recorder.open(f"c{play.clock.stamp()}", client, 40000)
        if tls:
            recorder.tls(self.connection, **tls)
        self.greeted = False
        self.due = 0  # a place in the order after the last command, and before the reply to it

    def says(self, *lines: str) -> Line:
        for line in lines if self.greeted or (lines and lines[0].startswith("->")) else ("->", *lines):
            self.greeted = True
            self._play(line)
        return self

    def answers(self, text: str) -> Line:
        """The reply that the client has been waiting for comes now: to the first that has none."""
        waiting = next(x for x in self.connection.exchanges if x.fault == "stall" and x.reply is None)
        if waiting.http is not None:
            self.recorder.more(waiting, status=int(text[:3]), whole=True)
        self.recorder.answer(waiting, text)
        return self

    def fails(self, failure: Failure) -> Line:
        """The client ends the connection, and this is what went wrong."""
        self.recorder.failed(self.connection, failure)
        self.recorder.close(self.connection, "client")
        return self

    def _play(self, line: str) -> None:
        if (arrives := _ARRIVES.fullmatch(line)) is not None:
            self._arrive(*arrives.groups())
        elif line == "(leaves)":
            self.recorder.close(self.connection, "client")
        elif line == "(closes)":
            self.recorder.close(self.connection, "fake")
        elif line == "(stopped)":
            self._exchange("enter", "", {}, "421 stopping", fault="stopped", closes=True)
        elif span := parse_duration(line.strip("()")):
            self.play.wait(span)
        elif self.connection.ended_by == "fake":
            self.recorder.said_after(self.connection, f"{line}\r\n".encode())
        else:
            self._say(line)

    def _arrive(self, how: str, span: str | None, line: str) -> None:
        if how == "unread":
            self.recorder.unread(self.connection, f"{line}\r\n".encode())
        elif how == "early":
            ago = parse_duration(span or "0s") or 0.0
            self._say(line, Arrival(self.due, self.play.clock.now() - ago))
        else:
            before = self.connection.exchanges[-1]
            self._say(line, Arrival(before.arrived_index, before.arrived_at))

    def _say(self, line: str, arrival: Arrival | None = None) -> None:
        parts = _LINE.fullmatch(line)
        assert parts is not None, line
        request, reply = parts["request"], _REPLY.fullmatch(parts["reply"] or "")
        assert reply is not None
        moment = self._moment(request)
        by_rule, text = bool(reply["rule"]), reply["text"]
        if text == "…":
            fault, text = "stall", ""
        else:
            fault = ("reply" if text else "close") if by_rule else None
            text = text or ("" if by_rule else self._healthy(moment))
        ends = self.play.protocol != "http" and not reply["stays"] and "421" in text
        closes = by_rule and (not text or ends)
        facts = _facts_given(parts["facts"] or "")
        self._exchange(moment, request, facts, text, fault=fault, closes=closes, late=reply["late"], arrival=arrival)
        if moment == "quit":
            self.leaving()

    def leaving(self) -> Line:
        """The client ends its side; the fake has not closed yet."""
        self.recorder.leaving(self.connection)
        return self

    def _healthy(self, moment: str) -> str:
        otherwise = "" if self.play.protocol == "http" or moment == "tls" else "250 ok"
        return _HEALTHY[self.play.protocol].get(moment, otherwise)

    def _moment(self, request: str) -> str:
        if not self.connection.exchanges and not request:
            return "connect"
        if request[:1] == "[":
            return request[1:].partition("]")[0]
        if self.play.protocol == "http":
            return "request"
        if request[:5] == "BDAT " and not self.connection.exchanges[-1].request.startswith("BDAT "):
            return "data"  # the first chunk
        return "message" if request[:1] == "." else request.partition(" ")[0].lower()

    def _exchange(
        self,
        moment: str,
        request: str,
        facts: dict[str, Any],
        text: str,
        *,
        fault: str | None,
        closes: bool,
        late: str | None = None,
        arrival: Arrival | None = None,
    ) -> None:
        """All that is written to the journal of an exchange."""
        recorder = self.recorder
        said = request.partition("] ")[2] if moment == "tls" else "" if request[:1] == "[" else request
        exchange = recorder.ask(self.connection, moment, said, "one")
        if arrival is not None:
            recorder.arrived(exchange, arrival)
        self.due = self.play.clock.stamp()
        if fault == "stopped":
            recorder.stopped(exchange)
        elif fault:
            recorder.refused(exchange, fault, "phase[0].rule[0]")
        recorder.facts(exchange, self._facts(moment, request, facts, text))
        if late:
            self.play.wait(late)
        for line in text.split(" | ") if text else ():
            if frame := _frame(line):
                recorder.frame(exchange, frame)
            else:
                recorder.answer(exchange, line)
        if closes:
            recorder.end(exchange)
            self.recorder.close(self.connection, "fake")

    def _facts(self, moment: str, request: str, given: dict[str, Any], text: str) -> Facts | None:
        healthy = text[:1] in ("2", "3") or (" | 2" in text and text[:1] == "1")
        if self.play.protocol == "http" and moment == "request":
            return _of_request(request, given, text)
        if self.play.protocol == "ftp" and moment in ("retr", *_UPLOADS, *_LISTINGS):
            direction = "upload" if moment in _UPLOADS else "listing" if moment in _LISTINGS else "download"
            path = request.partition(" ")[2]
            known = {"path": f"/{path}", "direction": direction, "mode": "PASV", "offset": 0, "bytes": 0, "data": None}
            known = {**known, "whole": healthy, **given}
            stored = True if direction == "upload" and healthy and known["whole"] else None
            return convert({"stored": stored, **known}, Transfer)
        if self.play.protocol == "ftp" and moment in _TARGETS:
            return convert({"path": f"/{request.partition(' ')[2].lstrip('/')}", **given}, Target)
        if moment in ("message", "body"):
            return _of_message(request, given, moment, healthy)
        assert not given, f"the journal knows no facts at {moment}"
        return None


def _of_message(request: str, given: dict[str, Any], moment: str, healthy: bool) -> Message:
    name, whole = re.sub(r"^(\.|\[body\]) *", "", request), moment == "message"
    sha256 = hashlib.sha256(name.encode()).hexdigest() if whole else None
    known = {"message_id": name or None, "sha256": sha256, "sender": "", "recipients": (), "whole": whole}
    return convert({**known, "stored": healthy and whole, **given}, Message)


def _of_request(request: str, given: dict[str, Any], text: str) -> Request:
    method, _, url = request.partition(" ")
    authority, slash, path = url.partition("/")
    status = next((int(line[:3]) for line in text.split(" | ") if line[:3].isdecimal()), None)
    size, why = given.pop("body", 0), given.pop("misdirected", None)
    known = {
        "stream": 1,
        "version": "2",
        "method": method,
        "authority": authority,
        "host": authority.partition(":")[0],
        "path": slash + path,
        "misdirected": [why] if why else [],
        "status": status,
        "body_bytes": size,
        "body_sha256": hashlib.sha256(b"x" * size).hexdigest() if size else None,
        "sent": 0,
        "whole": status is not None,
        "stored": False,
    }
    return convert({**known, **given}, Request)


def _frame(line: str) -> Frame | None:
    """The HTTP/2 frame that a line stands for, as the journal writes it."""
    name, _, rest = line.partition(" ")
    if name == "GOAWAY":
        code, _, last = rest.partition(", last stream ")
        return GoAwayFrame(code, int(last))
    if name == "RST_STREAM":
        return RstStreamFrame(rest, 1)
    if name == "ORIGIN":
        return OriginFrame(tuple(rest.split()))
    return AltSvcFrame(rest) if name == "ALTSVC" else None


def _facts_given(text: str) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in re.split(r", (?=[\w-]+=)", text) if pair]
    return {name: value if name in _TEXTS else _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    if text in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text]
    return int(text) if text.isdecimal() else text


BUSY = "-> !421 4.3.2 busy"


def tries(play: Play, *gaps: str | float, last: tuple[str, ...] = (BUSY,)) -> None:
    """A client is refused, and tries again after each gap; it is refused each time but perhaps the last."""
    play.connect(BUSY)
    for number, gap in enumerate(gaps, 1):
        play.wait(gap).connect(*(last if number == len(gaps) else (BUSY,)))
