"""The transfers of a session: from the command that needs a data connection to its last reply."""

# ruff: noqa: N802 (the names of pyftpdlib's methods)
from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Literal

from notnow import protocols
from notnow.engine.actions import BEHAVE, EndData, Script
from notnow.engine.events import Asked, Ended, Heard, Known, Reached
from notnow.journal import Exchange, Failure
from notnow.protocols.ftp import DataEnding
from notnow.servers.base import tls
from notnow.servers.base.dialogue import NO_OVERRIDE, ReplyOverride
from notnow.servers.ftp.asking import Asking, Continuation, HealthyAction
from notnow.servers.ftp.data import DataConnection
from notnow.servers.ftp.data_ports import ActivePort, PassivePort, bound
from notnow.servers.ftp.opened import Reader, Writer
from notnow.servers.ftp.running_transfer import RunningTransfer

NO_CONNECTION = "425 Can't open data connection."
ABORTED, DONE = "426 Transfer aborted via ABOR.", "226 ABOR command successful."
CUT = "426 Connection closed; transfer aborted."


class Transfers(Asking):
    """The part of a session for data connections, and for the one transfer that may be under way."""

    passive_dtp, active_dtp = PassivePort, ActivePort
    _dtp_acceptor: PassivePort | None
    _dtp_connector: ActivePort | None
    transfer: RunningTransfer | None = None  # the one under way
    data_channel: DataConnection | None = None
    next_data_fault: DataEnding | None = None  # how the next announced data connection ends
    private: bool = False  # PROT P
    _ended_early_by: DataEnding | None = None  # how a data connection ended before its transfer was asked for
    _failed_early: Failure | None = None  # why its TLS had failed then
    _ragged: bool = False  # the TLS of the next transfer ends without a close_notify
    _closed_port: tuple[socket.socket, int] | None = None

    async def _perform(self, script: Script, exchange: Exchange, healthy: HealthyAction) -> Sequence[bytes]:
        try:
            return await super()._perform(script, exchange, healthy)
        finally:
            self.next_data_fault = None  # no data connection was announced

    async def say(self, text: bytes, exchange: Exchange, drip: float = 0.0, ending: bool = False) -> None:
        await super().say(self.with_port(text), exchange, drip, ending)

    # ---- before a transfer -----------------------------------------------------------------------

    def _make_epasv(self, extmode: bool = False) -> None:
        try:
            super()._make_epasv(extmode)
        except OSError:  # no ports or no descriptors left
            self.respond(NO_CONNECTION)

    @property
    def mode(self) -> str | None:
        """The mode of the next data connection: "active", "passive", or None if there is none yet."""
        if self._dtp_connector is not None:
            return "active"
        return "passive" if self._dtp_acceptor is not None or self.data_channel is not None else None

    def announce(self, port: int, extended: bool) -> None:
        """A port has been opened: tell the client."""
        self.prepared("passive")
        if extended:
            self.respond(f"229 Entering Extended Passive Mode (|||{port}|).")
            return
        host = self.local.address.replace(".", ",")
        self.respond(f"227 Entering Passive Mode ({host},{port // 256},{port % 256}).")

    def prepared(self, mode: str | None) -> None:
        """The next data connection has this mode; None: there is none to wait for."""
        self._ended_early_by = self._failed_early = None
        self.host.feed(Known(self.record.id, {"mode": mode}))

    def with_port(self, text: bytes) -> bytes:
        """Fill the port of the data connection into a reply; see `notnow.language.knobs.LATE`."""
        if b"{p1}" not in text and b"{p2}" not in text and b"{data.port}" not in text:
            return text
        port = self._dtp_acceptor.port if self._dtp_acceptor is not None else self._unopened()
        for name, value in (("{p1}", port // 256), ("{p2}", port % 256), ("{data.port}", port)):
            text = text.replace(name.encode(), str(value).encode())
        return text

    def _unopened(self) -> int:
        """A closed port, for a PASV that has not taken effect."""
        self._closed_port = self._closed_port or bound(self)
        return self._closed_port[1]

    def close_ports(self) -> None:
        if self._closed_port is not None:
            self._closed_port[0].close()

    @property
    def certificate(self) -> tls.Shown:
        """The certificate of the data connections: that of the control connection."""
        assert self.shown is not None, "PROT P needs TLS on the control connection"
        return self.shown

    # ---- a transfer ------------------------------------------------------------------------------

    def begin_transfer(self, verb: str, line: str, argument: str) -> Continuation | None:
        """Carry out a command that needs a data connection. Returns the part that has to wait, if any."""
        transfer = self.transfer = RunningTransfer(verb, self.exchange, self.host.recorder)
        transfer.is_ragged, self._ragged = self._ragged, False
        if self.answers is not None or isinstance(self._dtp_connector, ActivePort):
            transfer.outcome = self.host.loop.create_future()
            return partial(self._see_through, transfer, line, argument)
        self._start(transfer, line, argument)
        return None

    async def _see_through(self, transfer: RunningTransfer, line: str, argument: str) -> Sequence[bytes]:
        """Wait for the end of a transfer. Returns its reply, which is not sent."""
        assert transfer.outcome is not None
        transfer.work = asyncio.current_task()
        if self._dtp_connector is None or await self._connect_to(self._dtp_connector, transfer):
            self._start(transfer, line, argument)
        self.busy -= 1  # for the commands that are allowed during a transfer
        self.serve()
        reply = await transfer.outcome
        return () if reply is None else (reply,)

    async def _connect_to(self, port: ActivePort, transfer: RunningTransfer) -> bool:
        """Open the data connection to a port of the client. False if the transfer has ended."""
        made = await port.connect()
        self._dtp_connector = None
        if made is None:
            self.over_with(transfer, NO_CONNECTION)
        elif transfer.is_over:  # the session has ended meanwhile
            made[0].close()
        else:
            self.data_arrives(*made, None)
        return not transfer.is_over

    def _start(self, transfer: RunningTransfer, line: str, argument: str) -> None:
        """Let pyftpdlib begin. A transfer that it refuses ends at once."""
        if self.data_channel is None and self._dtp_acceptor is None:
            fault, self._ended_early_by = self._ended_early_by, None
            if fault is not None:
                transfer.note(mode="passive", data=fault, cut_by="fake")
            if self._failed_early is not None:
                transfer.note(mode="passive", failure=self._failed_early)
                self._failed_early = None
            self.over_with(transfer, "425 Use PORT or PASV first." if fault is None else CUT)
            return
        self._restart_position = transfer.known.offset
        answers, _ = self.gather(lambda: self.pre_process_command(line, transfer.verb, argument))
        self._restart_position = 0
        for text in answers:
            self.over_with(transfer, text.decode("utf-8", "replace"))

    def over_with(self, transfer: RunningTransfer, reply: str | None) -> None:
        """End a transfer. `reply` is the healthy reply, None if another is sent."""
        if transfer.is_over:
            return
        transfer.is_over, self.watch = True, None
        self._forget_waiting()
        if self.transfer is transfer:
            self.transfer = None
        self.host.feed(Ended(self.record.id, transfer.moment))
        if transfer.outcome is not None:
            if not transfer.outcome.done():
                self.busy += 1  # at once: commands that are read in this turn of the loop wait for the reply, too
                transfer.outcome.set_result(None if reply is None else reply.encode("utf-8", "replace"))
        elif reply is not None:
            self.say_at_once(reply, transfer.exchange)
        if self._inbox or self.eof or self._quit_pending:
            self.serve_soon()

    def _forget_waiting(self) -> None:
        """Close the files that wait for a data connection; the next connection is for another transfer."""
        for queue in (self._out_dtp_queue, self._in_dtp_queue):
            for file in queue or ():
                if isinstance(file, (Reader, Writer)):
                    file.close()
        self._out_dtp_queue = self._in_dtp_queue = None

    # ---- what its data connection tells ----------------------------------------------------------

    def data_arrives(self, sock: socket.socket, port: int, fault: DataEnding | None) -> None:
        """A data connection has been made at this port of ours; a `fault` ends it at once."""
        self._dtp_acceptor = self._dtp_connector = None
        self.data_channel = DataConnection(sock, port, self)
        if fault is not None:
            self._ended_early_by = fault if self.transfer is None else None
            self.data_channel.end(fault, CUT)
        else:
            self._on_dtp_connection()

    def data_passes(self) -> None:
        self.host.feed(Heard(self.record.id))

    @property
    def is_ragged(self) -> bool:
        return self.transfer is not None and self.transfer.is_ragged

    @property
    def context(self) -> ssl.SSLContext:
        return self.host.tls_context()

    def data_reaches(self, data: DataConnection) -> None:
        """The byte that a rule waits for has passed."""
        transfer, self.watch = self.transfer, None
        script = self.host.feed(Reached(self.record.id), transfer.moment) if transfer is not None else None
        if transfer is None or script is None:
            data.resume()
            return
        request = f"({data.bytes} bytes so far)"
        exchange = self.host.recorder.ask(self.record, "transfer", request, script.phase, counted=False)
        self.take_time(partial(self.perform, script, exchange))

    def data_ends(self, data: DataConnection, how: DataEnding, reply: str | None, whole: bool) -> None:
        """A data connection has ended, and with it the transfer on it."""
        if self.data_channel is data:
            self.data_channel = None
        transfer = self.transfer
        if transfer is None:
            self._failed_early = data.failure
            return
        transfer.note_end(data, how, whole)
        if whole and not transfer.is_answered and reply is not None:
            self._complete(transfer, reply)
        else:
            self.over_with(transfer, None if transfer.is_answered else reply)

    def data_begins(self, data: DataConnection) -> bool:
        """The first byte of a transfer is next. True if a rule acts first, and resumes the connection later."""
        transfer = self.transfer
        if transfer is None:
            return False
        if data.resumed is not None:
            transfer.note(resumed=data.resumed)
        script = self._ask_amid(transfer, "data")
        if script.steps is BEHAVE:
            return False
        data.pause()
        self.take_time(partial(self._begin_data, transfer, data, script))
        return True

    def _ask_amid(self, transfer: RunningTransfer, moment: str) -> Script:
        """Ask the engine about a moment within a transfer. If the engine has closed the connection, the fake behaves."""
        self.host.recorder.also(moment)
        behaves = Script(self.record.id, BEHAVE, moment, "")
        if not self.host.has_rules_at(moment):
            return behaves
        known = transfer.known
        facts = {"path": known.path, "mode": known.mode, "resumed": known.resumed}
        return self.host.feed(Asked(self.record.id, moment, {"command": transfer.verb, **facts}), moment) or behaves

    async def _begin_data(self, transfer: RunningTransfer, data: DataConnection, script: Script) -> None:
        async def effect(override: ReplyOverride) -> None:
            if override == NO_OVERRIDE:
                data.resume()
            else:
                await self._end_in(override, transfer, data)

        await self.perform(script, transfer.exchange, effect)

    async def _end_in(self, override: ReplyOverride, transfer: RunningTransfer, data: DataConnection) -> None:
        """Let a transfer go on, and send its final reply as a rule wants it. A transfer that is cut gets its 426 all the same."""
        waiting, transfer.outcome = transfer.outcome, self.host.loop.create_future()
        transfer.work = transfer.work or asyncio.current_task()
        data.resume()
        self.busy -= 1  # for the commands that are allowed during a transfer
        self.serve()
        reply = await transfer.outcome
        if reply is not None:
            if not transfer.known.whole and override.instead:
                override = ReplyOverride(None, override.drip, override.ending)
            await self._answer(reply, transfer.exchange, override)
        if waiting is not None and not waiting.done():
            self.busy += 1
            waiting.set_result(None)

    def _complete(self, transfer: RunningTransfer, reply: str) -> None:
        """All bytes of a transfer have passed. Its final reply is next, unless a rule acts."""
        script = self._ask_amid(transfer, "complete")
        if script.steps is BEHAVE:
            self.over_with(transfer, reply)
            return
        transfer.is_complete = True
        self.take_time(partial(self._come_to_its_end, transfer, reply, script))

    async def _come_to_its_end(self, transfer: RunningTransfer, reply: str, script: Script) -> None:
        async def effect(override: ReplyOverride) -> None:
            if override == NO_OVERRIDE:
                self.over_with(transfer, reply)
            else:
                self.over_with(transfer, None)
                await self._answer(reply.encode("utf-8", "replace"), transfer.exchange, override)

        try:
            await self.perform(script, transfer.exchange, effect)
        finally:
            self.over_with(transfer, None)

    def _on_dtp_close(self) -> None:
        """`data_ends` does the work."""

    # ---- ending it from here ---------------------------------------------------------------------

    def end_data(self, step: EndData, exchange: Exchange) -> None:
        transfer = self.transfer
        moment = protocols.get("ftp").moments.get(exchange.moment)
        if step.how == "ragged":
            self._ragged = True
            if transfer is not None:
                transfer.is_ragged = True
        elif transfer is not None and transfer.is_complete and transfer.exchange is exchange:
            transfer.take_back()
        elif step.how == "open":
            self._let_go_on(transfer)
        elif moment is not None and moment.placeholders:
            self.next_data_fault = step.how
        else:
            self.end_all_data(step.how, step.keep)

    def _let_go_on(self, transfer: RunningTransfer | None) -> None:
        """The reply to a transfer has been sent before its end."""
        if transfer is not None and self.data_channel is not None:
            transfer.is_answered = True
            self.data_channel.resume()

    def end_all_data(self, how: DataEnding, keep: bool = True, by: Literal["client", "fake"] = "fake") -> None:
        """End the data connection, and every wait for one, because the client or the fake ends it."""
        port = self._dtp_acceptor
        sock = port.accept() if port is not None else None
        self._shutdown_connecting_dtp()
        if port is not None and sock is not None:  # the client has made it, and the loop has not told us yet
            self.data_channel, how = DataConnection(sock, port.port, self), port.fault or how
        if self.data_channel is not None:
            self.data_channel.by = by
            self.data_channel.end(how, keep=keep)
        if self.transfer is not None:
            self.over_with(self.transfer, None)

    def ftp_ABOR(self, line: str) -> None:
        """ABOR without a transfer."""
        super().ftp_ABOR(line)
        self.end_all_data("fin", by="client")

    def abort_transfer(self) -> Continuation | None:
        """ABOR of a transfer, before or after its first byte.

        The transfer gets its 426 first, and then ABOR its 226 (RFC 959 §4.1.3 and §5.4).
        """
        transfer = self.transfer
        assert transfer is not None
        self._shutdown_connecting_dtp()
        if self.data_channel is not None:
            self.data_channel.by = "client"
            self.data_channel.end("fin", ABORTED)
        self.over_with(transfer, ABORTED)
        if transfer.work is None:
            self.respond(DONE)
            return None
        return partial(self._after, transfer.work)

    async def _after(self, work: asyncio.Task[object]) -> Sequence[bytes]:
        """The reply to ABOR, after the reply to the transfer."""
        await asyncio.wait([work])
        return (DONE.encode(),)
