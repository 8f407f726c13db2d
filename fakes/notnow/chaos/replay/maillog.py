"""The deliveries in a mail.log of Postfix: what each of them met, in the words of its line.

The forms of the lines are those of Postfix 3.7, smtp(8): src/smtp/smtp_proto.c and smtp_trouble.c for the reasons.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct, field

from notnow.chaos.replay.recording import ReplayError, Table, literal
from notnow.language.replies import REPLY_LINE

MOST = 200_000  # deliveries that are kept
SENDERS = 50_000  # queue ids whose sender is remembered
LONGEST_REPLY = 510  # octets (RFC 5321 §4.5.3.1.5)
LONGEST_LINE = 16_384  # characters, with the lines that go on from it: searching one takes time with the square of them

_TIME = re.compile(
    r"(?:<\d+>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?) "
)  # of syslog (RFC 3164), and that of rsyslog with its full precision (RFC 3339)
_ADDRESS = r"<([^>]*(?:>(?!, )[^>]*)*)>, "  # without an alternative to go back to, however a line is made
_STATUS = re.compile(
    r"/(smtp|lmtp|error|retry)\[(\d+)\]: (?:message repeated (\d{1,9}) times: \[ )?(\w{6,}): to="
    rf"{_ADDRESS}(?:orig_to={_ADDRESS.replace('(', '(?:', 1)})?"
    r"relay=([^,]+), (?:conn_use=(\d{1,9}), )?delay=[^,]+, delays=([^,]+), dsn=[\d.]+, status=(deferred|bounced|sent) \((.*)$"
)
_FROM = re.compile(r"/qmgr\[\d+\]: (\w{6,}): from=<(.*?)>, size=")


class Cause(Struct, frozen=True, eq=True):
    """What a delivery met: a fault at a moment; `closes` says that the connection was over then."""

    moment: str
    fault: Table
    closes: bool


class Delivery(Struct):
    """One try to deliver one message to some recipients. `reused`: on a connection that was there.

    `outcomes` has what each recipient met, None where the server took the message for it.
    """

    time: str
    queue_id: str
    relay: str
    reused: bool
    sender: str | None
    outcomes: list[tuple[str, Cause | None]] = field(default_factory=list)


class MailLog(Struct):
    """What was found in a log: deliveries in order; how many recipients were deferred, refused for good (`bounces`) and served.

    `unplayable` counts the reasons that no scenario can repeat, and `others` the lines about something else.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    deferrals: int = 0
    bounces: int = 0
    sent: int = 0
    others: int = 0
    unplayable: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)


def read(lines: Iterable[str], name: str, relay: str = "*") -> MailLog:
    """The deliveries to the relays that match a glob. Raises ReplayError where there are too many."""
    found, reader = MailLog(), _Reader(relay, name)
    for line in _joined(lines):
        if len(line) > LONGEST_LINE:
            found.others += 1
            continue
        if "/qmgr[" in line and (told := _FROM.search(line)):
            reader.remember(told[1], told[2])
        if "status=" in line and (told := _STATUS.search(line)):
            reader.take(told, line, found)
        else:
            found.others += 1
    return found


def _joined(lines: Iterable[str]) -> Iterable[str]:
    """The lines, with those that go on the one before (they begin with a space) put behind it."""
    before = None
    for line in lines:
        if before is not None and line[:1] in (" ", "\t"):
            if len(before) > LONGEST_LINE:
                continue  # it is left out anyway
            before = f"{before} {line.strip()}"
        else:
            if before is not None:
                yield before
            before = line
    if before is not None:
        yield before


class _Reader:
    def __init__(self, relay: str, name: str) -> None:
        self._relay, self._name = relay.lower(), name
        self._senders: dict[str, str] = {}
        self._open: dict[
            str, tuple[tuple[str | None, ...], Delivery]
        ] = {}  # by queue id, the last delivery and what marks it

    def remember(self, queue_id: str, sender: str) -> None:
        self._senders[queue_id] = sender
        if len(self._senders) > SENDERS:
            del self._senders[next(iter(self._senders))]

    def take(self, told: re.Match[str], line: str, found: MailLog) -> None:
        """The line of one recipient."""
        agent, _, repeated, _, to, relay, _, _, status, why = told.groups()
        if not fnmatchcase(relay.partition("[")[0].lower(), self._relay) and relay != "none":
            found.others += 1
            return
        found.agents.add(agent)
        times = int(repeated or 1)
        if len(found.deliveries) + times > MOST:
            raise ReplayError(
                f"{self._name} has more than {MOST} deliveries; cut out the part that matters, or use --relay"
            )
        for _ in range(times):
            cause = None if status == "sent" else explained(_reason(why, repeated is not None), relay)
            if isinstance(cause, str):
                found.unplayable[cause] += 1
            else:
                self._count(status, found)
                self._delivery(told, line, found).outcomes.append((to, cause))

    @staticmethod
    def _count(status: str, found: MailLog) -> None:
        found.deferrals += status == "deferred"
        found.bounces += status == "bounced"
        found.sent += status == "sent"

    def _delivery(self, told: re.Match[str], line: str, found: MailLog) -> Delivery:
        """The delivery that a line is about: the recipients of one try have the process, the connection and the delays in
        common, but for the last delay: it lasts until the line is written.
        """
        _, pid, repeated, queue_id, _, relay, use, delays, *_ = told.groups()
        marks = (pid, relay, use, delays.rpartition("/")[0])
        before = self._open.get(queue_id)
        if before is not None and before[0] == marks and not repeated:
            return before[1]
        time = _TIME.match(line)
        made = Delivery(time[1] if time else "", queue_id, relay, int(use or 1) > 1, self._senders.get(queue_id))
        found.deliveries.append(made)
        self._open[queue_id] = marks, made
        if len(self._open) > SENDERS:
            del self._open[next(iter(self._open))]
        return made


def _reason(why: str, repeated: bool) -> str:
    """The text in parentheses; a log may have cut its end."""
    return (why.removesuffix("]") if repeated else why).removesuffix(")")


# ---- reasons -----------------------------------------------------------------------------------------

_ASKED = {
    "HELO": "ehlo", "EHLO": "ehlo", "LHLO": "ehlo", "MAIL FROM": "mail", "RCPT TO": "rcpt", "DATA": "data",
    "end of DATA": "message", "STARTTLS": "starttls", "AUTH": "auth", "final RSET": "rset", "QUIT": "quit",
}  # fmt: skip
_WHILE = {
    "receiving the initial server greeting": "connect",
    "performing the EHLO handshake": "ehlo",
    "performing the HELO handshake": "ehlo",
    "performing the LHLO handshake": "ehlo",
    "performing the initial protocol handshake": "ehlo",
    "sending MAIL FROM": "mail",
    "sending RCPT TO": "rcpt",
    "sending DATA command": "data",
    "sending message body": "body",
    "sending end of data": "message",
}
_SAID = re.compile(r"(?:host|server) \S+ said: (.*) \(in reply to (.+?)(?: command)?\)$", re.DOTALL)
_REFUSED: Mapping[str, re.Pattern[str]] = {
    "connect": re.compile(r"host \S+ refused to talk to me: (.*)$"),
    "starttls": re.compile(r"TLS is required, but host \S+ refused to start TLS: (.*)$"),
    "auth": re.compile(r"SASL authentication failed; server \S+ said: (.*)$"),
}
_LOST = re.compile(r"(lost connection) with \S+ while (.*)$|(conversation) with \S+ timed out while (.*)$")
_CERTIFICATE = re.compile(r"Server certificate not (?:verified|trusted)")


def explained(why: str, relay: str) -> Cause | str:
    """What the server did, from the reason that Postfix gives; in words where no scenario can repeat that."""
    if said := _SAID.match(why):
        moment = _ASKED.get(said[2])
        return f"refused in reply to {said[2]}" if moment is None else _replied(moment, said[1])
    for moment, pattern in _REFUSED.items():
        if refused := pattern.match(why):
            return _replied(moment, refused[1])
    if lost := _LOST.match(why):
        return _vanished(lost)
    if _CERTIFICATE.match(why):
        return Cause("tls", {"certificate": "untrusted"}, True)
    if why.startswith("Cannot start TLS: handshake failure"):
        return Cause("tls", {"alert": "handshake_failure"}, True)
    return _unplayable(why, relay)


def _replied(moment: str, words: str) -> Cause | str:
    lines = _lines(words)
    if not all(REPLY_LINE.fullmatch(line) for line in lines):
        return "a reply that is cut, or has no code"
    return Cause(moment, {"reply": lines[0] if len(lines) == 1 else lines}, lines[-1].startswith("421"))


def _lines(words: str) -> list[str]:
    """The lines of a reply, which Postfix writes one after another: each begins with the code, and the last has a space behind it."""
    code = words[:3]
    lines = re.split(rf" (?={code}[- ])", words) if words[3:4] == "-" and code.isdecimal() else [words]
    kept = [literal(line.encode("utf-8", "replace")[:LONGEST_REPLY].decode("utf-8", "ignore")) for line in lines]
    return [*kept[:-1], f"{code} {kept[-1][4:]}"] if kept[-1][3:4] == "-" else kept


def _vanished(lost: re.Match[str]) -> Cause | str:
    what = lost[2] or lost[4]
    moment = next((moment for words, moment in _WHILE.items() if what.startswith(words)), None)
    if moment is None:
        return f"{'lost connection' if lost[1] else 'timed out'} while {what}"
    return Cause(moment, {"close": True} if lost[1] else {"stall": True}, True)


def _unplayable(why: str, relay: str) -> str:
    """The kind of a reason, without the names in it."""
    if why.startswith("connect to "):
        return why.rpartition(": ")[2]
    if why.startswith("delivery temporarily suspended") or relay == "none":
        return why.partition(":")[0]
    return re.sub(r"\S+\[[0-9A-Fa-f:.]+\](?::\d+)?", "…", why)[:80]
