"""FakeFTP: an FTP server that says 421 on cue (RFC 959), on pyftpdlib."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from notnow.clock import Clock
from notnow.conduct.files import FileAssertions
from notnow.engine.actions import Script
from notnow.errors import Problem, ScenarioError
from notnow.journal import Connection, Exchange
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.base.listener import LingeringClose
from notnow.servers.ftp.files import DEFAULT, Content, Files
from notnow.servers.ftp.session import FTPSession, masked

ANONYMOUS = frozenset({"anonymous", "ftp"})  # RFC 1635 §3.2


class FakeFTP(FileAssertions, Fake):
    """A fake FTP server.

        with FakeFTP("ftp/overload", files={"report.csv": b"1,2"}) as ftp:
            fetch(host=ftp.host, port=ftp.port)
            ftp.assert_delivered(times=1)

    It listens when the block begins, and it lives in a thread of its own. Its files are in memory only.
    """

    protocol: ClassVar[str] = "ftp"
    allowed: ClassVar[frozenset[str]] = Fake.allowed | {"files"}
    files: Files

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.files = self._tree()
        self.drains: LingeringClose

    __init__.__doc__ = Fake.__init__.__doc__

    def _tree(self) -> Files:
        """The files as they are at the start. Raises ScenarioError for what cannot be one."""
        given = self.options.files if self.options.files is not None else self.scenario.server.files
        return _files(DEFAULT if given is None else given, self.scenario, self.clock)

    def _resolve(self, scenario: str | Path | Scenario | None, values: Mapping[str, Any]) -> Scenario:
        found = super()._resolve(scenario, values)
        _files(found.server.files or {}, found, self.clock)  # it would be too late to complain when it plays
        return found

    def _apply_server_table(self) -> None:
        self.files.quota = self.scenario.server.quota
        if self.options.files is None:
            for name, content in (self.scenario.server.files or {}).items():
                self.files.lay(name, content)

    @property
    def scheme(self) -> str:
        return "ftps" if self.tls == "implicit" else "ftp"

    def admits(self, user: str, password: str) -> bool:
        """True if this password is good. Any is, where nobody is named; and for anonymous, where it is named."""
        users = self.users
        if users is None:
            return True
        if user.lower() in ANONYMOUS and "anonymous" in users:
            return True
        return users.get(user) == password

    def _forget(self) -> None:
        super()._forget()
        self.files = self._tree()

    def _listen(self, sock: socket.socket) -> None:
        self.drains = LingeringClose(self.loop, lambda _record, _data: None, lambda _record: None)
        super()._listen(sock)

    async def _shut(self) -> None:
        await super()._shut()
        self.drains.close()
        self.files.release()

    def _admit(self, record: Connection, exchange: Exchange, script: Script) -> FTPSession:
        return FTPSession.adopt(self, record, exchange, script)

    def heard_after(self, record: Connection, data: bytes) -> None:
        super().heard_after(record, data)
        record.after = masked(record.after)


def _files(given: Mapping[str, Content], scenario: Scenario, clock: Clock) -> Files:
    try:
        return Files(given, scenario.server.quota, lambda: clock.epoch + clock.now())
    except (ValueError, TypeError) as error:
        raise ScenarioError([Problem(f"files: {error}")]) from None
