"""A mail transaction (RFC 5321 §3.3): MAIL, RCPT, and the message by DATA. `chunking` has BDAT."""

# ruff: noqa: N802 (the names of aiosmtpd's methods)
from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import structs

from notnow.bounds import RECIPIENTS, SMTP_MESSAGE, SMTP_PATH
from notnow.engine.actions import Watch
from notnow.engine.events import Asked, Ended, Heard, Reached
from notnow.journal import Exchange, Message, Parameters
from notnow.servers.base.dialogue import NO_OVERRIDE, ReplyOverride
from notnow.servers.base.life import Over
from notnow.servers.smtp import parameters
from notnow.servers.smtp.asking import Asking
from notnow.servers.smtp.body import Body, Chunks, LazyHeaders, message_id
from notnow.servers.smtp.connection import CHUNK

if TYPE_CHECKING:
    from aiosmtpd.smtp import Session as SMTPState

_PLAIN = re.compile(
    r"(FROM:|TO:)\s*<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>((?:\s.*)?)", re.DOTALL | re.IGNORECASE
)
_SIZE = re.compile(r"(?:^|\s)SIZE=([0-9]{1,20})(?:\s|$)", re.IGNORECASE)
_OF_ITS_DAY = re.compile(rb"^(?:Message-ID|Date):[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)

NEED_MAIL = "503 5.5.1 Error: need MAIL command"
NEED_RCPT = "503 5.5.1 Error: need RCPT command"
NESTED = "503 5.5.1 Error: nested MAIL command"
SYNTAX_MAIL, SYNTAX_RCPT = "MAIL FROM:", "RCPT TO:"
MALFORMED = "553 5.1.3 Error: malformed address"
TOO_LARGE = "552 5.3.4 Error: message size exceeds fixed maximum message size"
NOT_ASCII = "553 5.6.7 Error: non-ASCII address without SMTPUTF8"  # RFC 6531 §3.5


class Transactions(Asking):
    """A session that accepts mail."""

    mails = 0  # transactions since the greeting, or since TLS
    _answers: list[Exchange]  # by which a rule has answered the message in the middle of it

    def _create_session(self) -> SMTPState:
        self.mails = 0
        return super()._create_session()

    @property
    def greeted(self) -> bool:
        return self.session.host_name is not None

    def _not_greeted(self) -> str:
        return f"503 5.5.1 Error: send {self.hello} first"

    def _mail_facts(self) -> dict[str, Any]:
        return {"sender": self.envelope.mail_from, "size": self.size}

    def _message_facts(self) -> dict[str, Any]:
        envelope = self.envelope
        return {"recipient": tuple(envelope.rcpt_tos), "sender": envelope.mail_from, "size": self.size}

    # ---- paths -----------------------------------------------------------------------------------

    def _path(self, keyword: str, argument: str | None) -> tuple[str | None, str]:
        """The address and the parameters after FROM: or TO:; the address is None if there is none."""
        if plain := _plain(keyword, argument or ""):
            return plain  # nearly always; aiosmtpd's parser is thorough and slow
        rest = self._strip_command_keyword(keyword, argument or "")
        address, more = self._getaddr(rest) if rest else (None, "")
        if (
            address is None
            or not rest
            or parameters.is_ragged(rest[: len(rest) - len(more or "")], address, more or "")
        ):
            return None, ""
        return "" if address == "<>" else address, more or ""

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Parse an address, as aiosmtpd does."""
        if len(arg) > SMTP_PATH:
            return None, None
        try:
            return super()._getaddr(arg)
        except Exception:  # garbage makes the parser of `email.headerregistry` raise half a dozen kinds of errors
            return None, None

    def _bad_path(self, syntax: str, argument: str | None, address: str | None, more: str) -> str | None:
        """The reply that refuses FROM:<…> or TO:<…>. RFC 5321 §4.1.1: only the path of MAIL may be empty."""
        if address is None or (address == "" and syntax is not SYNTAX_MAIL):
            keyword = syntax.rpartition(" ")[2]
            return (
                MALFORMED if address is None and self._strip_command_keyword(keyword, argument or "") else _says(syntax)
            )
        if more.strip() and not self.session.extended_smtp:
            return f"501 5.5.4 Error: parameters need {self.hello}"
        return None

    # ---- MAIL and RCPT ---------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str | None) -> None:
        address, more = self._path("FROM:", arg)
        given, wrong = parameters.read(more, parameters.MAIL)
        if refusal := self._stands(self._no_mail(arg, address, more) or wrong or _unfit(address, given)):
            await self.push(refusal)
            if self.envelope.mail_from is None:
                self.host.feed(Ended(self.record.id, "mail"))
            return
        if self.envelope.mail_from is not None:  # a rule insists
            size = self.size
            self._set_rset_state()
            self.size = size
        self.mails += 1
        self.envelope.mail_from = address if address is not None else arg or ""
        self.envelope.parameters, self.envelope.smtp_utf8 = given, "SMTPUTF8" in given
        self._put_on_record(given)
        await self.push("250 2.1.0 Ok")

    def _no_mail(self, arg: str | None, address: str | None, more: str) -> str | None:
        """The reply that refuses MAIL now; None if it is allowed."""
        limits = self.host.limits
        if not self.greeted:
            return self._not_greeted()
        if self.host.users is not None and not self.session.authenticated:
            return "530 5.7.0 Authentication required"
        if self.envelope.mail_from is not None:
            return NESTED
        if limits.mailmax is not None and self.mails >= limits.mailmax:
            return f"452 4.7.0 Error: no more than {limits.mailmax} messages on one connection"
        return self._bad_path(SYNTAX_MAIL, arg, address, more)

    async def smtp_RCPT(self, arg: str | None) -> None:
        address, more = self._path("TO:", arg)
        given, wrong = parameters.read(more, parameters.RCPT)
        if refusal := self._stands(self._no_rcpt(arg, address, more) or wrong or self._too_many(address or "")):
            await self.push(refusal)
            return
        self.envelope.rcpt_tos.append(address if address is not None else arg or "")
        self.envelope.recipient_parameters.append(given)
        self._put_on_record(given)
        await self.push("250 2.1.5 Ok")

    def _no_rcpt(self, arg: str | None, address: str | None, more: str) -> str | None:
        """The reply that refuses RCPT now; None if it is allowed."""
        if not self.greeted:
            return self._not_greeted()
        if self.envelope.mail_from is None:
            return NEED_MAIL
        if self.envelope.chunks is not None:
            return "503 5.5.1 Error: the message is on its way"
        if wrong := self._bad_path(SYNTAX_RCPT, arg, address, more):
            return wrong
        return None if (address or "").isascii() or self.envelope.smtp_utf8 else NOT_ASCII

    def _too_many(self, address: str) -> str | None:
        """RFC 5321 §4.5.3.1.10: one recipient too many gets a 452, and the others stay."""
        limits, known = self.host.limits, self.envelope.rcpt_tos
        most = RECIPIENTS if limits.rcptmax is None else limits.rcptmax
        if len(known) >= most:
            return f"452 4.5.3 Error: no more than {most} recipients"
        if limits.rcptdomainmax is None:
            return None
        domains = {_domain(recipient) for recipient in (*known, address)}
        if len(domains) > limits.rcptdomainmax:
            return f"452 4.5.3 Error: no more than {limits.rcptdomainmax} domains of recipients"
        return None

    def _put_on_record(self, given: parameters.Parameters) -> None:
        """Put the parameters in the journal, with xtext decoded."""
        if given:
            self.host.recorder.facts(self.exchange, Parameters(MappingProxyType(given)))

    # ---- the message -----------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        if refusal := self._stands(self._no_data(arg)):
            await self.push(refusal)
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self.override, body = NO_OVERRIDE, Body(SMTP_MESSAGE)
        self.envelope.begun = self.exchange
        try:
            if await self._read(body):
                self._note_whole(body)
            else:
                await self._complete(body)
        finally:
            if not body.complete:
                self._note_cut(body)
            self._reset_transaction()

    def _no_data(self, arg: str | None) -> str | None:
        if arg:  # RFC 5321 §4.1.1: it takes no parameters
            return "501 5.5.4 Syntax: DATA"
        if not self.greeted:
            return self._not_greeted()
        if self.envelope.chunks is not None:  # RFC 3030 §2
            return "503 5.5.1 Error: DATA and BDAT in one transaction"
        if self.envelope.parameters.get("BODY") == "BINARYMIME":  # RFC 3030 §3
            return "503 5.5.1 Error: BINARYMIME needs BDAT"
        return None if self.envelope.rcpt_tos else NEED_RCPT

    async def _complete(self, body: Body | Chunks, override: ReplyOverride = NO_OVERRIDE) -> None:
        """The message is complete. `override` is for its reply, unless a rule at `message` has another."""
        facts, known = self._message_facts(), self._whole(body)
        facts["size"] = known.size
        if not body.too_large:
            assert isinstance(self.envelope.content, bytes)
            facts["header"] = LazyHeaders(self.envelope.content)

        for which in self._answered_together():

            async def effect(which: slice = which) -> None:
                self.override = override if self.override is NO_OVERRIDE else self.override
                await (self.push(TOO_LARGE) if body.too_large else self._store(which))

            of_these = {**facts, "recipient": tuple(self.envelope.rcpt_tos[which])}
            await self._ask("message", f"({body.size} bytes)", effect, of_these, self._for(which, known))

    def _answered_together(self) -> list[slice]:
        """The recipients that share a reply to the message: all of them, or each alone (RFC 2033 §4.2)."""
        if not self.speaks.answers_each_recipient:
            return [slice(None)]
        return [slice(i, i + 1) for i in range(max(1, len(self.envelope.rcpt_tos)))]

    async def _store(self, which: slice) -> None:
        kept = self.host.keep(self.record, self.envelope, which, self.user)
        self.host.recorder.more(self.exchange, stored=True)
        try:
            await self.push("250 2.0.0 Ok: queued")
        finally:
            self.host.pass_on(kept)

    # ---- the message in the journal --------------------------------------------------------------

    def _whole(self, body: Body | Chunks) -> Message:
        """A message that has come to its end, and is not stored so far."""
        if body.too_large:
            return structs.replace(self._part(body), whole=True)
        self.envelope.content = content = body.content()
        end = content.find(b"\r\n\r\n") + 2
        sha256, text = hashlib.sha256(content), hashlib.sha256(_OF_ITS_DAY.sub(b"", content[:end]))
        text.update(memoryview(content)[end:])
        sender, recipients = self._envelope()
        return Message(
            message_id(content), sha256.hexdigest(), sender, recipients, stored=False, size=len(content),
            text_sha256=text.hexdigest(),
        )  # fmt: skip

    def _part(self, body: Body | Chunks) -> Message:
        """A message of which more is to come."""
        return Message(body.message_id, None, *self._envelope(), stored=False, size=body.size, whole=False)

    def _envelope(self) -> tuple[str, tuple[str, ...]]:
        return self.envelope.mail_from or "", tuple(self.envelope.rcpt_tos)

    def _for(self, which: slice, message: Message) -> Message:
        """The message as these of its recipients get it."""
        return message if which == slice(None) else structs.replace(message, recipients=message.recipients[which])

    def _note_whole(self, body: Body) -> None:
        """A message that a rule has answered in the middle has come to its end."""
        whole = self._whole(body)
        for which, exchange in zip(self._answered_together(), self._answers, strict=False):
            self.host.recorder.facts(exchange, self._for(which, whole))

    def _note_cut(self, body: Body | Chunks) -> None:
        """The message has not come to its end: its beginning has these facts, unless a rule has answered it later."""
        if self.envelope.begun is not None and not self._answers:
            self.host.recorder.facts(self.envelope.begun, self._part(body))

    async def _read(self, body: Body) -> bool:
        """Read to the final dot. True if a rule has answered the message on the way."""
        await self._amid()
        answered = await self._passed(body)  # for a rule that acts before the first byte
        while not body.complete:
            if rest := body.feed(await self._piece(CHUNK)):
                self._inbox[:0] = rest
            if not body.complete:  # else a question follows, which says as much
                self.host.feed(Heard(self.record.id))
            if self.watch is not None:
                answered = await self._passed(body) or answered
        return answered

    async def _amid(self) -> None:
        """Ask the engine about the moment `body` when the message begins. The rule may act at a later byte."""
        self._answers = []
        facts = self._message_facts()
        if self.host.behaves(self.record.id, "body", facts, self.host.clock.now()):  # nearly always
            self.watch = None
            return
        script = self.host.feed(Asked(self.record.id, "body", facts), "body")
        if script is None:
            raise Over
        if script.rule is not None:
            exchange = self.host.recorder.ask(self.record, "body", "", script.phase)
            await self.perform(script, exchange)
            self.host.recorder.tell(exchange)
        self.watch = next((step.bytes for step in script.steps if isinstance(step, Watch)), None)

    async def _passed(self, body: Body | Chunks) -> bool:
        """A piece has arrived. True if a rule has answered the message at it."""
        if self.watch is None or body.size < self.watch:
            return False
        self.watch = None
        script = self.host.feed(Reached(self.record.id), "body")
        if script is None:
            return False
        for which in self._answered_together():
            exchange = self.exchange = self.host.recorder.ask(
                self.record, "body", f"({body.size} bytes so far)", script.phase
            )
            self.host.recorder.facts(exchange, self._for(which, self._part(body)))
            self._answers.append(exchange)
            await self.perform(script, exchange)
        return exchange.reply is not None


@lru_cache(maxsize=128)  # a command's path is looked at twice, and a client names few
def _plain(keyword: str, argument: str) -> tuple[str, str] | None:
    """The address and the parameters of a path without quotes and routes; None for any other."""
    found = _PLAIN.fullmatch(argument)
    return (found[2], found[3]) if found and found[1].upper() == keyword else None


def _says(syntax: str) -> str:
    return f"501 5.5.4 Syntax: {syntax}<address> [SP <parameters>]"


def _unfit(address: str | None, given: parameters.Parameters) -> str | None:
    """The reply to parameters of MAIL that are valid but not acceptable here."""
    if int(given.get("SIZE") or 0) > SMTP_MESSAGE:  # RFC 1870 §6.1
        return TOO_LARGE
    return None if (address or "").isascii() or "SMTPUTF8" in given else NOT_ASCII


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def announced(line: str) -> int | None:
    """The size that the parameters of MAIL announce."""
    found = _SIZE.search(line)
    return int(found[1]) if found else None
