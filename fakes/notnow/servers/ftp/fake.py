"""FakeFTP: an FTP server that says 421 on cue (RFC 959), on pyftpdlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from notnow.conduct.files import FileAssertions
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.ftp.bridge import FileBridge, new_files
from notnow.servers.ftp.files import Files


class FakeFTP(FileAssertions, Fake):
    """A fake FTP server.

        with FakeFTP("ftp/overload", files={"report.csv": b"1,2"}) as ftp:
            fetch(host=ftp.host, port=ftp.port)
            ftp.assert_delivered(times=1)

    It listens when the block begins, and it lives in a thread of its own. Its files are in memory only: `files` is a mapping
    of paths to bytes, or the `pathlib.Path` of a directory, which is read once and never written to.
    """

    protocol: ClassVar[str] = "ftp"
    _option_names: ClassVar[frozenset[str]] = Fake._option_names | {"files"}
    _bridge_class: ClassVar[type[FileBridge]] = FileBridge
    _bridge: FileBridge

    def _new_bridge(self, scenario: Scenario) -> FileBridge:
        return self._bridge_class(self._options, scenario, type(self).__name__, self.name)

    def _resolve(self, scenario: str | Path | Scenario | None, values: Mapping[str, Any]) -> Scenario:
        found = super()._resolve(scenario, values)
        new_files(
            found.server.files or {}, found, self.clock
        )  # a bad file is an error now, not when the scenario plays
        return found

    @property
    def files(self) -> Files:
        """The files of the server: a mapping of paths to bytes, to read and to write."""
        return self._bridge.files
