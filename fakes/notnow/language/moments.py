"""The moments of each protocol: where a rule may act, what is known there, and which faults it can have.

This table is the only place that names them. The scenario loader checks against it, the engine compiles
by it, and the reference in the docs is printed from it. To add a moment, add a row here and have the
adapter of that protocol say it (`Asked(conn, "name", facts)`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

# How the data connection of an FTP transfer ends, or goes on.
DataEnding = Literal["fin", "reset", "drain", "drop", "open", "ragged"]

# Facts that stay known on a connection once an event has brought them.
CONNECTION_FACTS = frozenset({"client", "tls", "sni", "user"})

# Facts that are known at a later moment than the one that begins it: a rule that asks for one is decided then.
LATER = {"resumed": "data"}

# Faults that replace the healthy answer, and those that go with it.
_REPLY = frozenset({"reply", "close", "stall", "keep", "delay", "drip"})
_HANDSHAKE = frozenset({"certificate", "alert", "close"})
_UNASKED = frozenset({"reply", "close", "delay", "drip"})
_TRANSFER = _REPLY | {"data", "after_bytes"}
_FRAMES = frozenset({"goaway", "altsvc", "origin"})
_ANSWER = (
    frozenset({"status", "headers", "body", "delay", "drip", "stall", "close", "reset_stream", "after_bytes"}) | _FRAMES
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in a protocol where a rule may act.

    `facts`: the names that `where` may use besides those of the connection. `within`: broader moments that
    cover it, such as `any`. `lasts`: what it begins stays in progress until an `Ended`, and that is what
    `over` counts here. `unasked`: the client has asked for nothing, so where no rule fires nothing is said.
    `body`: it is in the middle of what the client sends. `attempt`: to ask it again after a refusal is to
    try again, as a new connection is; `anywhere`: on whichever connection. `placeholders`: what a reply may hold here and nowhere else. `final`: a
    status here is the answer to everything on the connection, which then closes. `verbs`: the commands that come here,
    where only some do. `amid`: a transfer is under way, and what is refused here ends it. `ends`: all of what was begun
    has passed; what is refused here is taken back.
    """

    doc: str
    faults: frozenset[str] = _REPLY
    facts: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()
    lasts: bool = False
    unasked: bool = False
    body: bool = False
    attempt: bool = False
    anywhere: bool = False
    placeholders: frozenset[str] = frozenset()
    final: bool = False
    verbs: tuple[str, ...] = ()
    amid: bool = False
    ends: bool = False


def _command(doc: str, *facts: str, **more: Any) -> Moment:
    return Moment(doc, facts=frozenset({"command", *facts}), within=frozenset({"any"}), **more)


def _with_verbs(table: dict[str, Moment]) -> dict[str, Moment]:
    """The moments of commands, which have the names of their verbs unless they say more."""
    return {
        name: replace(m, verbs=m.verbs or (name.upper(),)) if "command" in m.facts else m for name, m in table.items()
    }


_EVERYWHERE = {
    "connect": Moment("A connection is accepted; what is said here stands instead of the greeting.", attempt=True),
    "tls": Moment("The ClientHello of a TLS handshake, with the name that it asks for.", faults=_HANDSHAKE),
    "enter": Moment("The phase begins: acts on every live connection.", faults=_UNASKED, unasked=True),
    "any": Moment("Every command, the unknown ones too.", facts=frozenset({"command"})),
    "error": Moment(
        "A 4yz or 5yz reply has just left; what the rule says comes in addition.",
        faults=_UNASKED,
        facts=frozenset({"command"}),
        unasked=True,
    ),
    "idle": Moment("The client has been silent for the time that `after` says.", faults=_UNASKED, unasked=True),
}

_MAIL = ("sender", "size")

_SMTP = _with_verbs({
    "starttls": _command("STARTTLS (RFC 3207)."),
    "ehlo": _command("EHLO or HELO.", verbs=("EHLO", "HELO")),
    "auth": _command("AUTH, once the credentials are in (RFC 4954).", "user"),
    "mail": _command("MAIL FROM: a mail transaction begins.", *_MAIL, lasts=True, attempt=True),
    "rcpt": _command("RCPT TO, for each recipient.", *_MAIL, "recipient"),
    "data": _command(
        "The DATA command, or the first BDAT of a message (RFC 3030).", *_MAIL, "recipient", verbs=("DATA", "BDAT")
    ),
    "body": Moment(
        "In the middle of the message, after the first bytes of it or after `after_bytes`.",
        faults=(_REPLY | {"after_bytes"}) - {"keep"},
        facts=frozenset({*_MAIL, "recipient"}),
        body=True,
    ),
    "message": Moment(
        "The final dot, or BDAT LAST: the message is all there.", facts=frozenset({*_MAIL, "recipient", "header"})
    ),
    "rset": _command("RSET."),
    "noop": _command("NOOP."),
    "quit": _command("QUIT."),
})  # fmt: skip


_OF_TRANSFERS = frozenset({"command", "path", "mode", "resumed"})


def _transfer(doc: str) -> Moment:
    return Moment(
        doc,
        faults=_TRANSFER,
        facts=_OF_TRANSFERS,
        within=frozenset({"transfer", "any"}),
        lasts=True,
        attempt=True,
    )


def _announces(doc: str) -> Moment:
    placeholders = frozenset({"p1", "p2", "data.port"})
    return _command(doc, faults=_REPLY | {"data"}, placeholders=placeholders)


_TRANSFERS = ("RETR", "STOR", "APPE", "STOU", "LIST", "NLST", "MLSD")

_FTP = _with_verbs({
    "login": Moment("A good PASS: the user is about to be let in (230).", facts=frozenset({"user"})),
    "transfer": Moment(
        f"Any command that needs a data connection: {', '.join(_TRANSFERS)}.",
        faults=_TRANSFER,
        facts=_OF_TRANSFERS,
        lasts=True,
        verbs=_TRANSFERS,
    ),
    "data": Moment(
        "The data connection of a transfer is there, in TLS after its handshake, and nothing has passed over it yet.",
        faults=_REPLY | {"data"},
        facts=_OF_TRANSFERS,
        verbs=_TRANSFERS,
        amid=True,
    ),
    "complete": Moment(
        "All of a transfer has passed; its final reply (226) is next.",
        facts=_OF_TRANSFERS,
        verbs=_TRANSFERS,
        ends=True,
    ),
    "retr": _transfer("RETR: a download."),
    "stor": _transfer("STOR: an upload."),
    "appe": _transfer("APPE: an upload that is put behind what is there."),
    "stou": _transfer("STOU: an upload under a name of the server's choice."),
    "list": _transfer("LIST."),
    "nlst": _transfer("NLST."),
    "mlsd": _transfer("MLSD (RFC 3659 §7)."),
    "user": _command("USER; `user` is the name that it gives.", "user"),
    "pass": _command("PASS, good or not; `user` is the name that USER has given.", "user", attempt=True),
    "auth": _command("AUTH TLS (RFC 4217)."),
    "pbsz": _command("PBSZ (RFC 4217)."),
    "prot": _command("PROT (RFC 4217)."),
    "pasv": _announces("PASV. `{p1}` and `{p2}` in its reply are the port that was opened."),
    "epsv": _announces("EPSV (RFC 2428). `{data.port}` in its reply is the port that was opened."),
    "port": _command("PORT."),
    "eprt": _command("EPRT (RFC 2428)."),
    "type": _command("TYPE."),
    "rest": _command("REST: where the next transfer is to begin."),
    "cwd": _command("CWD.", "path", verbs=("CWD", "XCWD")),
    "cdup": _command("CDUP.", "path", verbs=("CDUP", "XCUP")),
    "pwd": _command("PWD.", verbs=("PWD", "XPWD")),
    "mkd": _command("MKD.", "path", verbs=("MKD", "XMKD")),
    "rmd": _command("RMD.", "path", verbs=("RMD", "XRMD")),
    "dele": _command("DELE.", "path"),
    "rnfr": _command("RNFR.", "path"),
    "rnto": _command("RNTO.", "path"),
    "size": _command("SIZE (RFC 3659 §4).", "path"),
    "mdtm": _command("MDTM (RFC 3659 §3).", "path"),
    "mfmt": _command("MFMT.", "path"),
    "mlst": _command("MLST (RFC 3659 §7).", "path"),
    "stat": _command("STAT.", "path"),
    "abor": _command("ABOR."),
    "allo": _command("ALLO."),
    "feat": _command("FEAT (RFC 2389)."),
    "help": _command("HELP."),
    "mode": _command("MODE."),
    "noop": _command("NOOP."),
    "opts": _command("OPTS (RFC 2389)."),
    "rein": _command("REIN."),
    "site": _command("SITE."),
    "stru": _command("STRU."),
    "syst": _command("SYST."),
    "quit": _command("QUIT."),
})  # fmt: skip


_REQUEST = frozenset({"command", "method", "authority", "path", "query", "header", "size", "misdirected"})

_HTTP = {
    "connect": replace(
        _EVERYWHERE["connect"],
        doc="A connection is accepted; a status answers all that is asked on it, and then it closes.",
        faults=frozenset({"status", "headers", "body", "delay", "stall", "close"}),
        final=True,
    ),
    "request": Moment(
        "The head of a request is in.",
        faults=_ANSWER | {"keep"},
        facts=_REQUEST,
        within=frozenset({"any"}),
        lasts=True,
        attempt=True,
        anywhere=True,
    ),
    "response": Moment("The app has an answer, and none of it has left.", faults=_ANSWER, facts=_REQUEST),
    "any": replace(_EVERYWHERE["any"], doc="Every request.", faults=_ANSWER | {"keep"}, facts=_REQUEST),
    "enter": replace(_EVERYWHERE["enter"], faults=frozenset({"close", "delay", "reset_stream"}) | _FRAMES),
    "error": replace(
        _EVERYWHERE["error"],
        doc="A 4xx or 5xx has just left; what the rule says comes in addition.",
        faults=frozenset({"close", "delay"}) | _FRAMES,
    ),
    "idle": replace(
        _EVERYWHERE["idle"],
        faults=frozenset({"close", "delay"}) | _FRAMES,
        facts=frozenset({"command", "method", "path", "query"}),
    ),
}


def _with_data(moment: Moment, *facts: str) -> Moment:
    """A moment of a protocol that may have a data connection under way."""
    return replace(moment, faults=moment.faults | {"data"}, facts=moment.facts.union(facts))


MOMENTS: dict[str, dict[str, Moment]] = {
    "smtp": _EVERYWHERE | _SMTP,
    "ftp": _EVERYWHERE
    | {
        "enter": replace(_with_data(_EVERYWHERE["enter"], "command", "mode"), verbs=_TRANSFERS),
        "idle": replace(_with_data(_EVERYWHERE["idle"], "command", "mode"), verbs=_TRANSFERS),
        "error": _with_data(_EVERYWHERE["error"]),
        "any": replace(_EVERYWHERE["any"], facts=frozenset({"command", "path", "mode"})),
    }
    | _FTP,
    "http": _EVERYWHERE | _HTTP,
}

PROTOCOLS = tuple(MOMENTS)
# What a journal counts beside these: commands that have no moment of their own, and answers to a challenge of AUTH.
BESIDE: dict[str, tuple[str, ...]] = {
    "smtp": ("unknown", "challenge", "vrfy", "expn", "help", "bdat"),
    "ftp": ("unknown",),
    "http": ("malformed", "initial"),  # a request over HTTP/2 that is none; a QUIC connection that is tried
}
NO_COMMANDS = frozenset({"challenge", "malformed", "initial"})  # of these: no rule of `any` is asked about them


def covering(protocol: str, moment: str) -> frozenset[str]:
    """The values of `on` that cover an event of `moment`: itself, and what is broader. Unknown commands have `any`."""
    known = MOMENTS[protocol].get(moment)
    return (known.within if known else frozenset({"any"})) | {moment}


def facts(protocol: str) -> frozenset[str]:
    """Every name that `where` may use in a scenario of this protocol."""
    return CONNECTION_FACTS.union(*(m.facts for m in MOMENTS[protocol].values()))


def facts_at(protocol: str, moment: str) -> frozenset[str]:
    """The names that `where` may use at a moment. A connection that is just accepted has said nothing yet."""
    if moment == "connect":
        return frozenset({"client"})
    known = CONNECTION_FACTS | MOMENTS[protocol][moment].facts
    return known | (facts(protocol) - {"header"}) if moment == "any" else known


__all__ = ["CONNECTION_FACTS", "MOMENTS", "PROTOCOLS", "Moment", "covering", "facts", "facts_at"]
