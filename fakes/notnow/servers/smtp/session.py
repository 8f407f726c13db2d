"""One SMTP session: aiosmtpd's parsing and state; it asks the engine before every step."""

# ruff: noqa: N802, ARG002 (the names and arguments of aiosmtpd's methods)
from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable
from typing import Any, NoReturn

from msgspec.structs import replace

from notnow.bounds import SMTP_LINE, SMTP_MESSAGE
from notnow.engine.actions import BEHAVE
from notnow.engine.events import Heard, Known
from notnow.servers.base.http_lines import is_header, is_request_line
from notnow.servers.base.life import CONCLUDING, Over
from notnow.servers.base.turns import Turn
from notnow.servers.smtp import auth
from notnow.servers.smtp.chunking import Chunking
from notnow.servers.smtp.transaction import announced

_SECRET = re.compile(r"(AUTH\s+\S+\s+)\S+", re.IGNORECASE)


class SMTPSession(Chunking):
    """A live SMTP connection of a fake."""

    # ---- the loop over commands ------------------------------------------------------------------

    async def serve(self) -> None:
        try:
            if self.opening.steps is BEHAVE:
                await self._greet()
            else:
                await self._perform(self.opening, self.exchange, self._greet)
            await self._serve_commands()
        except Over:
            if self.life.fake is CONCLUDING:
                return  # the script that is about to send the last reply also closes
        except (asyncio.CancelledError, EOFError):
            pass
        except Exception as error:
            if not self.is_lost(error):
                self.host.failed(error)
        if not self.over:
            self.end()

    async def _serve_commands(self) -> None:
        turn: Turn | None = None
        while True:
            while not self._inbox or (line := self._next_line()) is None:
                await self._input()
            await self._command(line)
            if self._choked is not None:
                await self._choked
            if not self._inbox:
                turn = None
            elif (turn := turn or Turn(self.host.turns)).over():
                await turn.end()

    async def _greet(self) -> None:
        await self.push(f"220 {self.hostname} {self.ident}")

    def _command(self, line: bytes) -> Awaitable[None]:
        """Begin to carry out a command; await the rest."""
        word, _, rest = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        request = line.decode("utf-8", "replace")
        method = self._command_named(verb)
        if method is None or len(line) > SMTP_LINE or 0 in line:
            return self._ask("unknown", masked(request), lambda: self._not_understood(line), {"command": verb})
        self.nonsense = 0
        argument = rest.strip().decode("utf-8", "surrogateescape") or None
        if verb == "AUTH":
            return self._auth(argument)
        if verb == "BDAT":
            return self._bdat(request, argument, self._facts(verb, "data", argument))
        moment = self._moments.get(verb, verb.lower())
        return self._ask(moment, request, lambda: method(argument), self._facts(verb, moment, argument))

    async def _not_understood(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if (is_request_line(text) or is_header(text)) and not self.insisted:
            await self._end_with(
                "221 2.7.0 Error: I can break rules, too. Goodbye."
            )  # Postfix smtpd_forbidden_commands
        if self.floods():
            await self._end_with(f"421 4.7.0 {self.hostname} Error: too many commands that are none, closing")
        what = "line too long" if len(line) > SMTP_LINE else "command not recognized"
        await self.push(f"500 5.5.2 Error: {what}")

    async def _end_with(self, reply: str) -> NoReturn:
        self.override = replace(self.override, ending=True)
        await self.push(reply)
        self.finish("fin", self.exchange)
        raise Over

    def _facts(self, verb: str, moment: str, argument: str | None) -> dict[str, Any]:
        """The facts of a command; see the moments of `notnow.protocols`."""
        if moment == "mail":
            address, more = self._path("FROM:", argument)
            self.size = announced(more) if more else None
            return {"command": verb, "sender": address, "size": self.size}
        if moment == "rcpt":
            return {"command": verb, "recipient": self._path("TO:", argument)[0], **self._mail_facts()}
        if moment == "data":
            return {"command": verb, **self._message_facts()}
        return {"command": verb}

    # ---- commands --------------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if refusal := self._stands(None if hostname else f"501 Syntax: {self.hello} hostname"):
            await self.push(refusal)  # RFC 2034 §4: no enhanced code
            return
        self._reset_transaction()
        self.session.extended_smtp, self.session.host_name = True, hostname or ""
        offers = [self.hostname, *self._offers()]
        await self.push("\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"]))

    def _offers(self) -> list[str]:
        """The extensions that EHLO announces."""
        offers = ["PIPELINING", f"SIZE {SMTP_MESSAGE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        offers += ["DSN", "CHUNKING", "BINARYMIME"]
        limits = vars(self.host.limits).items()
        if announced := " ".join(f"{name.upper()}={value}" for name, value in limits if value is not None):
            offers.append(f"LIMITS {announced}")  # RFC 9422 §3
        if self.host.tls == "starttls" and not self.secure:
            offers.append("STARTTLS")
        return [*offers, f"AUTH {' '.join(auth.MECHANISMS)}", "HELP"]

    async def smtp_HELO(self, hostname: str | None) -> None:
        if refusal := self._stands(None if hostname else "501 Syntax: HELO hostname"):
            await self.push(refusal)
            return
        self._reset_transaction()
        self.session.extended_smtp, self.session.host_name = False, hostname or ""
        await self.push(f"250 {self.hostname}")

    async def smtp_NOOP(self, arg: str | None) -> None:
        await self.push("250 2.0.0 Ok")

    async def smtp_HELP(self, arg: str | None) -> None:
        await self.push(f"214 2.0.0 Commands: {' '.join(self._commands())}")

    async def smtp_VRFY(self, arg: str | None) -> None:
        refusal = self._stands(None if arg else "501 5.5.4 Syntax: VRFY <address>")
        await self.push(refusal or "252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery")

    async def smtp_EXPN(self, arg: str | None) -> None:
        if refusal := self._stands("502 5.5.1 Error: command not implemented"):
            await self.push(refusal)

    async def smtp_RSET(self, arg: str | None) -> None:
        if refusal := self._stands("501 5.5.4 Syntax: RSET" if arg else None):
            await self.push(refusal)  # RFC 5321 §4.1.1: it takes no parameters
            return
        self._reset_transaction()
        await self.push("250 2.0.0 Ok")

    async def smtp_QUIT(self, arg: str | None) -> None:
        if refusal := self._stands("501 5.5.4 Syntax: QUIT" if arg else None):
            await self.push(refusal)
            return
        self.leave()
        await self.push("221 2.0.0 Bye")
        raise Over

    # ---- AUTH ------------------------------------------------------------------------------------

    async def _auth(self, argument: str | None) -> None:
        """AUTH (RFC 4954): ask the engine once the credentials are complete."""
        mechanism, _, initial = (argument or "").partition(" ")
        mechanism, initial = mechanism.upper(), initial.strip()
        request = f"AUTH {mechanism}".strip() + (" ********" if initial else "")
        if refusal := self._auth_refusal(mechanism):
            await self._ask("auth", request, lambda: self._let_in(refusal, ""), {"command": "AUTH"})
            return
        challenges = auth.MECHANISMS[mechanism](initial, self.hostname)
        try:
            credentials, request = await self._talk(challenges, request)
        except auth.Refusal as why:
            reply = str(why)
            await self._ask("auth", request, lambda: self._let_in(reply, ""), {"command": "AUTH"})
            return
        facts = {"command": "AUTH", "user": credentials.user}
        await self._ask("auth", request, lambda: self._log_in(credentials), facts)

    def _auth_refusal(self, mechanism: str) -> str | None:
        if not self.session.extended_smtp:
            return self._not_greeted()
        if self.session.authenticated:
            return "503 5.5.1 Error: already authenticated"
        if self.envelope.mail_from is not None:  # RFC 4954 §4
            return "503 5.5.1 Error: no AUTH within a mail transaction"
        if not mechanism:
            return "501 5.5.4 Syntax: AUTH mechanism"
        if mechanism not in auth.MECHANISMS:
            return "504 5.5.4 Error: unrecognized authentication type"
        return None

    async def _talk(self, challenges: auth.Challenges, request: str) -> tuple[auth.Credentials, str]:
        """Send the challenges of the mechanism. Return the credentials, and the last line as the journal may show it.
        Raises Refusal.
        """
        try:
            wanted = next(challenges)
            while True:
                exchange = self.host.recorder.ask(self.record, "challenge", request, self.host.phase)
                await self.say(auth.challenge(wanted).encode(), exchange)
                answer = await self._answer()
                request = "********"
                wanted = challenges.send(answer)
        except StopIteration as done:
            return done.value, request

    async def _answer(self) -> str:
        """The client's answer to a challenge. Raises Refusal if it is too long."""
        line = await self._line()
        self.host.feed(Heard(self.record.id))
        if len(line) > SMTP_LINE:  # RFC 4954 §6
            raise auth.Refusal("500 5.5.6 Error: authentication exchange line is too long")
        return line.decode("ascii", "replace").strip()

    async def _log_in(self, credentials: auth.Credentials) -> None:
        password = None if self.host.users is None else self.host.users.get(credentials.user, "")
        known = self.host.users is None or credentials.user in self.host.users
        if known and (password is None or credentials.proven(password)):
            await self._let_in(None, credentials.user)
            return
        if credentials.trouble and not self.insisted:
            await self.say(auth.challenge(credentials.trouble).encode(), self.exchange)
            with contextlib.suppress(auth.Refusal):  # its answer does not matter
                await self._answer()
        await self._let_in("535 5.7.8 Error: authentication credentials invalid", credentials.user)

    async def _let_in(self, refusal: str | None, user: str) -> None:
        """Log the client in, unless there is a refusal and no rule insists."""
        if stands := self._stands(refusal):
            await self.push(stands)
            return
        self.session.authenticated = True
        self.user = user or None
        self.host.feed(Known(self.record.id, {"user": self.user}))
        await self.push("235 2.7.0 Authentication successful")


def masked(text: str) -> str:
    """Text from a client without its credentials, for the journal."""
    return _SECRET.sub(r"\1********", text)
