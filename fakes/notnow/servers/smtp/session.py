"""One SMTP session: aiosmtpd's parsing and state, with the engine asked before every step."""

# ruff: noqa: N802, ARG002 (the names and arguments of aiosmtpd's methods)
from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiosmtpd.smtp import TLSSetupException

from notnow.actions import Script, Watch
from notnow.events import Asked, Ended, Heard, Known, Reached
from notnow.journal import Exchange
from notnow.servers._dialogue import AS_USUAL, Manner, wire
from notnow.servers._wire import Over
from notnow.servers.smtp import auth
from notnow.servers.smtp.body import Body, LazyHeaders
from notnow.servers.smtp.wire import CHUNK, LARGEST_MESSAGE, Wire, unread

LONGEST_COMMAND = 12_288  # RFC 4954 §4: the longest line, of AUTH
TURN = 64  # commands of one client that are served before others have their turn

MOMENTS = {
    "EHLO": "ehlo", "HELO": "ehlo", "STARTTLS": "starttls", "AUTH": "auth", "MAIL": "mail", "RCPT": "rcpt",
    "DATA": "data", "RSET": "rset", "NOOP": "noop", "QUIT": "quit",
}  # fmt: skip
_SIMPLE = re.compile(r"<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>(.*)", re.DOTALL)
_SIZE = re.compile(r"(?:^|\s)SIZE=([0-9]{1,18})(?:\s|$)", re.IGNORECASE)
_ON_BEHALF = re.compile(r"\s+AUTH=\S+", re.IGNORECASE)
_SECRET = re.compile(r"(AUTH\s+\S+\s+)\S+", re.IGNORECASE)


class Session(Wire):
    """A live SMTP connection of a fake."""

    manner: Manner = AS_USUAL  # how the next healthy reply is said
    goodbye = "421 4.3.2 {host} Service not available, closing transmission channel"

    # ---- the loop over commands ------------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            await self._perform(self.opening, self.exchange, self._greet)
            await self._serve()
        except Over:
            if self.parting and not self.over:
                return  # whoever is about to say the last word will close as well
        except (asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        except TLSSetupException as error:
            self._starttls_failed(error.__cause__ or error)
        except Exception as error:
            if not self.is_lost(error):
                self.fake.failed(error)
        if not self.over:
            self.end()

    async def _serve(self) -> None:
        while True:
            for _ in range(TURN):
                line = await self._line()
                await self._command(line)
                if self.transport.get_write_buffer_size():
                    await self._writer.drain()
            await asyncio.sleep(0)

    async def _greet(self) -> None:
        await self.push(f"220 {self.hostname} {self.__ident__}")

    async def _command(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        request = line.decode("utf-8", "replace")
        if verb not in self._smtp_methods or len(line) > LONGEST_COMMAND or b"\0" in line:
            await self._ask("unknown", masked(request), lambda: self._not_understood(line), command=verb)
            return
        argument = rest.strip().decode("utf-8", "surrogateescape") or None
        if verb == "AUTH":
            await self._auth(argument)
            return
        method = self._smtp_methods[verb]
        moment = MOMENTS.get(verb, verb.lower())
        await self._ask(moment, request, lambda: method(self, argument), **self._facts(verb, moment, argument))

    async def _not_understood(self, line: bytes) -> None:
        what = "line too long" if len(line) > LONGEST_COMMAND else "command not recognized"
        await self.push(f"500 5.5.2 Error: {what}")

    def _facts(self, verb: str, moment: str, argument: str | None) -> dict[str, Any]:
        """What is known at a command; see `notnow.moments`."""
        if moment == "mail":
            address, parameters = self._path("FROM:", argument)
            found = _SIZE.search(parameters)
            self.size = int(found[1]) if found else None
            return {"command": verb, "sender": address, "size": self.size}
        if moment == "rcpt":
            return {"command": verb, "recipient": self._path("TO:", argument)[0], **self._mail_facts()}
        if moment == "data":
            return {"command": verb, "recipient": tuple(self.envelope.rcpt_tos), **self._mail_facts()}
        return {"command": verb}

    def _mail_facts(self) -> dict[str, Any]:
        return {"sender": bare(self.envelope.mail_from), "size": self.size}

    def _path(self, keyword: str, argument: str | None) -> tuple[str | None, str]:
        """The address and the parameters after FROM: or TO:; None where there is no address."""
        rest = self._strip_command_keyword(keyword, argument or "")
        address, parameters = self._getaddr(rest) if rest else (None, "")
        return bare(address), parameters or ""

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's parser is thorough and slow; nearly all addresses are plain."""
        if simple := _SIMPLE.match(arg):
            return simple[1], simple[2]
        try:
            return super()._getaddr(arg)
        except Exception:  # the parser of `email.headerregistry` trips over garbage in half a dozen ways
            return None, None

    # ---- asking the engine, and doing what it says -----------------------------------------------

    async def _ask(self, moment: str, request: str, effect: Callable[[], Awaitable[None]], **facts: Any) -> None:
        """Ask about a command or a point of the protocol, and carry out the answer; `effect` is to behave."""
        exchange = self.exchange = self.fake.journal.ask(self.record, moment, request, self.fake.phase)
        script = self.fake.feed(Asked(self.record.id, moment, facts), moment)
        if script is None:  # closed, by what time brought with it
            raise Over
        await self._perform(script, exchange, effect)

    async def _perform(self, script: Script, exchange: Exchange, effect: Callable[[], Awaitable[None]]) -> None:
        async def behave(manner: Manner) -> None:
            self.manner = manner
            await effect()
            self.manner = AS_USUAL

        await self.perform(script, exchange, behave)

    async def push(self, status: str | bytes) -> None:
        """Every healthy reply comes through here; a rule may have put another in its place."""
        text = status.encode("utf-8", "surrogateescape") if isinstance(status, str) else status
        manner = self.manner
        if manner.instead is not None:
            self.manner = replace(manner, instead=())
            if not manner.instead:
                return
            text = wire(manner.instead)
        await self.say(text, self.exchange, manner.drip, manner.ending)

    def verb(self, exchange: Exchange) -> str:
        return super().verb(exchange) if exchange.moment != "auth" else "AUTH"

    # ---- commands --------------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._reset_transaction()
        self.session.extended_smtp, self.session.host_name = True, hostname
        offers = [self.hostname, "PIPELINING", f"SIZE {LARGEST_MESSAGE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self.fake.tls == "starttls" and not self.secure:
            offers.append("STARTTLS")
        offers += ["AUTH PLAIN LOGIN", "HELP"]
        await self.push("\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"]))

    async def smtp_HELO(self, hostname: str | None) -> None:
        self._reset_transaction()
        await super().smtp_HELO(hostname or "")

    async def smtp_HELP(self, arg: str | None) -> None:
        await self.push(f"214 2.0.0 Commands: {' '.join(sorted(self._smtp_methods))}")

    async def smtp_RSET(self, arg: str | None) -> None:
        self._reset_transaction()
        await self.push("250 2.0.0 Ok")

    def _reset_transaction(self) -> None:
        self._set_rset_state()
        self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_MAIL(self, arg: str | None) -> None:
        if self.fake.users is not None and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
        else:
            # RFC 4954 §5: who offers AUTH takes the parameter, and may ignore it.
            await super().smtp_MAIL(_ON_BEHALF.sub("", arg) if arg else arg)
        if self.envelope.mail_from is None:
            self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_QUIT(self, arg: str | None) -> None:
        self.leave()
        await self.push("221 2.0.0 Bye")
        raise Over

    async def _auth(self, argument: str | None) -> None:
        """AUTH (RFC 4954): the engine is asked once the credentials are in."""
        mechanism, _, initial = (argument or "").partition(" ")
        mechanism, initial = mechanism.upper(), initial.strip()
        request = f"AUTH {mechanism}".strip() + (" ********" if initial else "")
        if refusal := self._auth_refusal(mechanism):
            await self._ask("auth", request, lambda: self.push(refusal), command="AUTH")
            return
        dialogue = auth.MECHANISMS[mechanism](initial)
        try:
            user, password, request = await self._talk(dialogue, request)
        except auth.Refusal as why:
            reply = str(why)
            await self._ask("auth", request, lambda: self.push(reply), command="AUTH")
            return
        await self._ask("auth", request, lambda: self._log_in(user, password), command="AUTH", user=user)

    def _auth_refusal(self, mechanism: str) -> str | None:
        if not self.session.extended_smtp:
            return "503 5.5.1 Error: send EHLO first"
        if self.session.authenticated:
            return "503 5.5.1 Error: already authenticated"
        if mechanism not in auth.MECHANISMS:
            return "504 5.5.4 Error: unrecognized authentication type"
        return None

    async def _talk(self, dialogue: auth.Dialogue, request: str) -> tuple[str, str, str]:
        """Ask the client for what the mechanism wants: the name, the password, and the last line as the journal
        may show it. Raises Refusal."""
        try:
            wanted = next(dialogue)
            while True:
                exchange = self.fake.journal.ask(self.record, "challenge", request, self.fake.phase)
                await self.say(auth.challenge(wanted).encode(), exchange)
                answer = (await self._line()).decode("ascii", "replace").strip()
                self.fake.feed(Heard(self.record.id))
                request = "********"
                wanted = dialogue.send(answer)
        except StopIteration as done:
            user, password = done.value
            return user, password, request

    async def _log_in(self, user: str, password: str) -> None:
        users = self.fake.users
        if users is not None and users.get(user) != password:
            await self.push("535 5.7.8 Error: authentication credentials invalid")
            return
        self.session.authenticated = True
        self.user = user
        self.fake.feed(Known(self.record.id, {"user": user}))
        await self.push("235 2.7.0 Authentication successful")

    # ---- the message -----------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self.manner = AS_USUAL
        try:
            await self._message()
        finally:
            self._reset_transaction()

    async def _message(self) -> None:
        facts = {"recipient": tuple(self.envelope.rcpt_tos), **self._mail_facts()}
        body = Body(LARGEST_MESSAGE)
        if await self._read(body, facts):
            return
        facts["size"] = body.size
        if body.too_large:
            effect = self._too_large
        else:
            self.envelope.content = content = body.content()
            facts |= {"header": LazyHeaders(content), "size": len(content)}
            effect = self._store
        await self._ask("message", f"({body.size} bytes)", effect, **facts)

    async def _read(self, body: Body, facts: dict[str, Any]) -> bool:
        """Read to the final dot. The moment `body` is decided now, and may act when its byte has come.

        True if the message has been answered on the way.
        """
        script = self.fake.feed(Asked(self.record.id, "body", facts), "body")
        if script is None:
            raise Over
        if script.rule is not None:
            exchange = self.fake.journal.ask(self.record, "body", "", script.phase)
            await self.perform(script, exchange)
            self.fake.journal.tell(exchange)
        self.watch = next((step.bytes for step in script.steps if isinstance(step, Watch)), None)
        answered = False
        while not body.complete:
            chunk = await self._reader.read(CHUNK)
            if not chunk:
                raise asyncio.IncompleteReadError(b"", None)
            if rest := body.feed(chunk):
                unread(self._reader)[:0] = rest
            self.fake.feed(Heard(self.record.id))
            if self.watch is not None and body.size >= self.watch:
                self.watch = None
                answered = await self._reached(body)
        return answered

    async def _reached(self, body: Body) -> bool:
        script = self.fake.feed(Reached(self.record.id), "body")
        if script is None:
            return False
        exchange = self.exchange = self.fake.journal.ask(
            self.record, "body", f"({body.size} bytes so far)", script.phase
        )
        await self.perform(script, exchange)
        return exchange.reply is not None

    async def _too_large(self) -> None:
        await self.push("552 5.3.4 Error: message too large")

    async def _store(self) -> None:
        self.exchange.facts = self.fake.keep(self.record, self.envelope, self.user)
        await self.push("250 2.0.0 Ok: queued")


def masked(text: str) -> str:
    """A client's words as the journal may show them: without credentials."""
    return _SECRET.sub(r"\1********", text)


def bare(path: str | None) -> str | None:
    """An address as aiosmtpd has it; the null sender, to it `<>`, is the empty one."""
    return "" if path == "<>" else path
