"""FTP (RFC 959)."""

from __future__ import annotations

import posixpath
import re
from typing import Literal

from msgspec.structs import replace

from notnow.protocols.fact import COMMAND, CONNECTION, Choice, Fact, Glob, ValueNeverHeldError, before_wildcard
from notnow.protocols.moment import EVERYWHERE, REPLY, Moment, command, with_verbs
from notnow.protocols.protocol import Protocol, Sample, Words

# How the data connection of a transfer ends, or goes on.
DataEnding = Literal["fin", "reset", "drain", "drop", "open", "ragged"]

_TRANSFER = REPLY | {"data", "after_bytes"}
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
    return command(doc, faults=REPLY | {"data"}, placeholders=placeholders)


_TRANSFERS = ("RETR", "STOR", "APPE", "STOU", "LIST", "NLST", "MLSD")


def _with_data(moment: Moment, *facts: str) -> Moment:
    """A moment at which a data connection may be under way."""
    return replace(moment, faults=moment.faults | {"data"}, facts=moment.facts.union(facts))


_COMMANDS = with_verbs({
    "login": Moment("A correct PASS: the server is about to let the user in (230).", facts=frozenset({"user"})),
    "transfer": Moment(
        f"Any command that needs a data connection: {', '.join(_TRANSFERS)}.",
        faults=_TRANSFER,
        facts=_OF_TRANSFERS,
        lasts=True,
        verbs=_TRANSFERS,
    ),
    "data": Moment(
        "The data connection of a transfer is open (with TLS: after the handshake), and no byte has passed over it yet.",
        faults=REPLY | {"data"},
        facts=_OF_TRANSFERS,
        verbs=_TRANSFERS,
        amid=True,
    ),
    "complete": Moment(
        "The whole transfer has passed; its final reply (226) comes next.",
        facts=_OF_TRANSFERS,
        verbs=_TRANSFERS,
        ends=True,
    ),
    "retr": _transfer("RETR: a download."),
    "stor": _transfer("STOR: an upload."),
    "appe": _transfer("APPE: an upload that is appended to the file."),
    "stou": _transfer("STOU: an upload under a name that the server chooses."),
    "list": _transfer("LIST."),
    "nlst": _transfer("NLST."),
    "mlsd": _transfer("MLSD (RFC 3659 §7)."),
    "user": command("USER; `user` is the name that the client gives.", "user", claimed=True),
    "pass": command("PASS, right or wrong; `user` is the name that the client gave with USER.", "user", attempt=True, claimed=True),
    "auth": command("AUTH TLS (RFC 4217)."),
    "pbsz": command("PBSZ (RFC 4217)."),
    "prot": command("PROT (RFC 4217)."),
    "pasv": _announces("PASV. `{p1}` and `{p2}` in its reply stand for the port that the server has opened."),
    "epsv": _announces("EPSV (RFC 2428). `{data.port}` in its reply stands for the port that the server has opened."),
    "port": command("PORT."),
    "eprt": command("EPRT (RFC 2428)."),
    "type": command("TYPE."),
    "rest": command("REST: the offset of the next transfer."),
    "cwd": command("CWD.", "path", verbs=("CWD", "XCWD")),
    "cdup": command("CDUP.", "path", verbs=("CDUP", "XCUP")),
    "pwd": command("PWD.", verbs=("PWD", "XPWD")),
    "mkd": command("MKD.", "path", verbs=("MKD", "XMKD")),
    "rmd": command("RMD.", "path", verbs=("RMD", "XRMD")),
    "dele": command("DELE.", "path"),
    "rnfr": command("RNFR.", "path"),
    "rnto": command("RNTO.", "path"),
    "size": command("SIZE (RFC 3659 §4).", "path"),
    "mdtm": command("MDTM (RFC 3659 §3).", "path"),
    "mfmt": command("MFMT.", "path"),
    "mlst": command("MLST (RFC 3659 §7).", "path"),
    "stat": command("STAT.", "path"),
    "abor": command("ABOR."),
    "allo": command("ALLO."),
    "feat": command("FEAT (RFC 2389)."),
    "help": command("HELP."),
    "mode": command("MODE."),
    "noop": command("NOOP."),
    "opts": command("OPTS (RFC 2389)."),
    "rein": command("REIN."),
    "site": command("SITE."),
    "stru": command("STRU."),
    "syst": command("SYST."),
    "quit": command("QUIT."),
})  # fmt: skip

_MOMENTS = {
    **EVERYWHERE,
    "enter": replace(_with_data(EVERYWHERE["enter"], "command", "mode"), verbs=_TRANSFERS),
    "idle": replace(_with_data(EVERYWHERE["idle"], "command", "mode"), verbs=_TRANSFERS),
    "error": replace(_with_data(EVERYWHERE["error"]), claimed=True),
    "any": replace(EVERYWHERE["any"], facts=frozenset({"command", "path", "mode"}), claimed=True),
    **_COMMANDS,
}


def _file(wanted: str) -> ValueNeverHeldError | None:
    """A path of an FTP server: absolute, and normalized as the server has it."""
    allowed = 'an absolute path such as "/in/a.csv", or a glob of one ("/in/*.csv")'
    head = before_wildcard(wanted)
    if (head and not head.startswith("/")) or not wanted:
        return ValueNeverHeldError(allowed, "/" + wanted.removeprefix("./") if wanted else "/")
    if (wanted.endswith("/") and wanted != "/") or re.search(r"//|/\.\.?(/|$)", wanted):
        normal = posixpath.normpath("/" + wanted.lstrip("/")) if head else None
        return ValueNeverHeldError(f"{allowed}; it has no '//', '.' or '..' in it, and no '/' at its end", normal)
    return None


_FACTS = {
    **CONNECTION,
    "user": replace(
        CONNECTION["user"], doc="The user who is logged in; at USER and PASS, the name that the client gives."
    ),
    "command": Fact("The verb of the command; at `enter` and `idle`, that of the transfer in progress.", COMMAND),
    "path": Fact("The file or directory, absolute.", Glob('a path ("/in/a.csv") or a glob of one ("/in/*")', _file)),
    "mode": Fact(
        "The side that opens the data connection: active is the server, passive the client.",
        Choice(("active", "passive")),
    ),
    "resumed": Fact(
        "Whether the TLS of the data connection resumes a session of the control connection (RFC 8446 §2.2). A rule "
        "that asks for it is decided at `data`.",
        Choice((True, False)),
        decided_at="data",
    ),
}

PROTOCOL = Protocol(
    name="ftp",
    fake="notnow.servers.ftp.FakeFTP",
    rules="notnow.conduct.rules.ftp",
    ledger="notnow.conduct.reading.ftp.files",
    faults="notnow.chaos.faults.ftp",
    moments=_MOMENTS,
    facts=_FACTS,
    server_keys=frozenset({"files", "quota", "users"}),
    expect_keys=frozenset({"no_partial_files"}),
    aliases=("ftps",),
    free_text_replies=True,
    visit=("user", "pass", "login", "pasv", "stor"),
    words=Words(
        item="file",
        unfinished="transfer",
        done="stored",
        nothing="nothing refused, nothing transferred",
        delivered="It transfers every file that it began, whole and exactly {times}.",
        no_duplicates="It does not resend a file that the server has stored.",
    ),
    samples=(
        Sample(
            "curl",
            "curl {url}/",
            {"none": "", "starttls": " --ssl-reqd --cacert {ca}", "implicit": " --cacert {ca}"},
        ),
    ),
)
