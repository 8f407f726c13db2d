"""SMTP (RFC 5321)."""

from __future__ import annotations

from notnow.protocols.fact import COMMAND, CONNECTION, WILD, Fact, Glob, Size, ValueNeverHeldError
from notnow.protocols.moment import EVERYWHERE, REPLY, Moment, command, with_verbs
from notnow.protocols.protocol import Protocol, Sample, Words

_MAIL = ("sender", "size")

_COMMANDS = with_verbs({
    "starttls": command("STARTTLS (RFC 3207)."),
    "ehlo": command("EHLO or HELO.", verbs=("EHLO", "HELO")),
    "auth": command("AUTH, once the credentials are in (RFC 4954).", "user"),
    "mail": command("MAIL FROM: a mail transaction begins.", *_MAIL, lasts=True, attempt=True),
    "rcpt": command("RCPT TO, for each recipient.", *_MAIL, "recipient"),
    "data": command(
        "The DATA command, or the first BDAT of a message (RFC 3030).", *_MAIL, "recipient", verbs=("DATA", "BDAT")
    ),
    "body": Moment(
        "In the middle of the message: after its first bytes, or after `after_bytes`.",
        faults=(REPLY | {"after_bytes"}) - {"keep"},
        facts=frozenset({*_MAIL, "recipient"}),
        body=True,
    ),
    "message": Moment(
        "The final dot, or BDAT LAST: the whole message has arrived.", facts=frozenset({*_MAIL, "recipient", "header"})
    ),
    "rset": command("RSET."),
    "noop": command("NOOP."),
    "quit": command("QUIT."),
})  # fmt: skip


def _mailbox(wanted: str) -> ValueNeverHeldError | None:
    """An address as the envelope has it, without the brackets of MAIL FROM:<…>."""
    if wanted.startswith("<") or wanted.endswith(">"):
        return ValueNeverHeldError(
            'an address without < and >, or a glob of one ("*@example.net"); "" is the null sender', wanted.strip("<>")
        )
    return None


def _mailbox_doubt(wanted: str) -> str | None:
    if wanted and not WILD.search(wanted) and "@" not in wanted and wanted.lower() != "postmaster":
        return f'an address has an \'@\': "*@{wanted}" is everybody at this host, "{wanted}@*" this name at any'
    return None


_ADDRESS = Glob('an address ("ann@a.test") or a glob of one ("*@a.test")', _mailbox, _mailbox_doubt)
_FACTS = {
    **CONNECTION,
    "command": Fact("The verb of the command.", COMMAND),
    "sender": Fact('The address of MAIL FROM; `""` is the null sender.', _ADDRESS),
    "recipient": Fact("The addresses of RCPT TO; one that matches is enough.", _ADDRESS),
    "size": Fact("The size that SIZE= announces (RFC 1870); at `message`, the size of the message.", Size()),
    "header": Fact("A header field of the message: `header.subject`."),
}

PROTOCOL = Protocol(
    name="smtp",
    fake="notnow.servers.smtp.FakeSMTP",
    rules="notnow.conduct.rules.smtp",
    ledger="notnow.conduct.reading.smtp.delivery",
    faults="notnow.chaos.faults.smtp",
    moments={**EVERYWHERE, **_COMMANDS},
    facts=_FACTS,
    also_counted=("unknown", "challenge", "vrfy", "expn", "help", "bdat"),
    not_commands=frozenset({"challenge"}),
    server_keys=frozenset({"limits", "users"}),
    aliases=("smtps", "mail", "esmtp"),
    visit=("ehlo", "mail", "rcpt", "data", "message"),
    longest_reply=510,  # RFC 5321 §4.5.3.1.5
    words=Words(
        item="message",
        unfinished="message",
        done="stored",
        nothing="nothing refused, nothing stored",
        delivered="It delivers every message exactly {times}.",
        no_duplicates="It does not resend a message that the server has accepted.",
    ),
    samples=(
        # Only without TLS: swaks does not compare the host name with the certificate.
        Sample("swaks", "swaks --server {server} --from a@x.test --to b@x.test"),
        Sample(
            "curl",
            "echo hi | curl {url} --mail-from a@x.test --mail-rcpt b@x.test -T-",
            {"none": "", "starttls": " --ssl-reqd --cacert {ca}", "implicit": " --cacert {ca}"},
        ),
    ),
)
