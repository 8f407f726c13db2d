"""The peers that are Python libraries, as processes: `python -m tests.bench.peer_servers PACKAGE healthy|refusing PORT`."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from typing import Any


def _http(kind: str, port: int) -> Any:
    server = importlib.import_module("pytest_httpserver").HTTPServer(host="127.0.0.1", port=port)
    server.expect_request("/").respond_with_data("said", status=421 if kind == "refusing" else 200)
    server.start()
    return server


def _ftp(_kind: str, port: int) -> Any:
    servers = importlib.import_module("pytest_localftpserver.servers")
    server = servers.SimpleFTPServer(username="user", password="word", ftp_port=port)
    threading.Thread(target=server.run, daemon=True).start()
    return server


def main() -> None:
    package, kind, port = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serving = {"pytest-httpserver": _http, "pytest-localftpserver": _ftp}[package](kind, int(port))
    signal.pause()
    del serving


if __name__ == "__main__":
    main()
