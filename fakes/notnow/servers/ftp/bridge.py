"""The bridge of an FTP fake: its sessions, its files, and the data connections that are being closed."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from notnow.clock import Clock
from notnow.engine.actions import Script
from notnow.errors import Problem, ScenarioError
from notnow.journal import Connection, Exchange
from notnow.language.scenario import Scenario
from notnow.servers.base.bridge import Bridge
from notnow.servers.base.listener import LingeringClose
from notnow.servers.base.options import Options
from notnow.servers.ftp import directory
from notnow.servers.ftp.files import DEFAULT, Content, Files
from notnow.servers.ftp.session import FTPSession, masked

ANONYMOUS = frozenset({"anonymous", "ftp"})  # RFC 1635 §3.2


class FileBridge(Bridge):
    """A `FileHost`."""

    goodbye = FTPSession.goodbye
    session_class: ClassVar[type[FTPSession]] = FTPSession
    drains: LingeringClose

    def __init__(self, options: Options, scenario: Scenario, label: str, name: str) -> None:
        super().__init__(options, scenario, label, name)
        self._given = directory.read(options.files) if isinstance(options.files, Path) else options.files
        self.files = self._tree()

    def _tree(self) -> Files:
        """The files at the start. Raises ScenarioError for invalid ones."""
        given = self._given if self._given is not None else self.scenario.server.files
        return new_files(DEFAULT if given is None else given, self.scenario, self.clock)

    def apply_server_table(self) -> None:
        self.files.quota = self.scenario.server.quota
        if self._given is None:
            for name, content in (self.scenario.server.files or {}).items():
                self.files.lay(name, content)

    def admits(self, user: str, password: str) -> bool:
        """True if this user may log in. Without a list of users everybody may; anonymous may if the list has it."""
        users = self.users
        if users is None:
            return True
        if user.lower() in ANONYMOUS and "anonymous" in users:
            return True
        return users.get(user) == password

    def admit(self, record: Connection, exchange: Exchange, script: Script) -> FTPSession:
        return self.session_class.adopt(self, record, exchange, script)

    def forget(self) -> None:
        super().forget()
        self.files = self._tree()

    def listen(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # inherited: it keeps an urgent ABOR in one piece
        self.drains = LingeringClose(self.loop, lambda _record, _data: None)
        super().listen(sock)

    def close_unused(self) -> bool:
        if unused := super().close_unused():
            self.files.release()
        return unused

    async def shut(self) -> None:
        await super().shut()
        self.drains.close()
        self.files.release()

    def masked(self, text: str) -> str:
        return masked(text)


def new_files(given: Mapping[str, Content], scenario: Scenario, clock: Clock) -> Files:
    """A tree of files. Raises ScenarioError for invalid ones."""
    try:
        return Files(given, scenario.server.quota, lambda: clock.epoch + clock.now())
    except (ValueError, TypeError) as error:
        raise ScenarioError([Problem(f"files: {error}")]) from None
