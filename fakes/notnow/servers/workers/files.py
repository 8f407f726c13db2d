"""Workers that serve files. The tree is that of the process that they have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from notnow.errors import FakeError
from notnow.servers.ftp.bridge import FileBridge
from notnow.servers.ftp.files import Files
from notnow.servers.ftp.session import FTPSession
from notnow.servers.workers import remote_files
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.duty import Duty
from notnow.servers.workers.open_files import OpenFiles
from notnow.servers.workers.working import Working


class Session(FTPSession):
    """A session in a worker."""

    abstracted_fs = remote_files.RemoteFS


class Worker(Working, FileBridge):
    """A `FileHost` without files of its own."""

    session_class: ClassVar[type[FTPSession]] = Session

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.remote_files = remote_files.Files(self.link, self.duty.place)

    def _tree(self) -> Files:
        """Nothing asks for it."""
        return Files({}, None, self.clock.now)

    def apply_server_table(self) -> None:
        """The crew lays the files of another scenario."""


class Crew(Crewed, FileBridge):
    """A tree of files with workers."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._open_files = OpenFiles(self)

    def answer(self, question: str, *given: Any) -> tuple[Any, bool]:
        if question == "files":
            return self._open_files.answer(*given), False
        return super().answer(question, *given)

    async def shut(self) -> None:
        await super().shut()
        self._open_files.cut()

    def lost(self, why: FakeError, duty: Duty | None = None) -> None:
        cut = [] if duty is None else self._open_files.cut(duty.place)
        super().lost(FakeError(f"{why}; partial files: {', '.join(cut)}") if cut else why, duty)
