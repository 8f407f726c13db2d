"""SIGTERM to `notnow serve` amid work of all kinds: it ends without waiting for anything, and leaves nothing.

All servers say goodbye before any waits for its clients, which they all do at once. What is scripted takes an hour, so that a server that waits for any of it is killed by the watchdog, and fails. On an idle
machine it takes less than a second; the test prints how long.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.soak import clients
from tests.soak.clients import Ports, Seen
from tests.soak.cycles import CLIENT_HELLO

from cli_process import PATIENCE, Notnow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")
WEB = """
summary = "The path says how long the answer takes."
protocol = "http"
server.tls = "implicit"
[[phase]]
rule = [
  { on = "request", where = { path = "/delay/*" }, delay = "1h" },
  { on = "request", where = { path = "/stall/*" }, stall = true },
  { on = "response", where = { path = "/drip/*" }, drip = "1h" },
]
"""
SERVERS = {
    "smtp": "smtp/healthy", "mute": "smtp/stalled-greeting", "slow": "smtp/slow-replies", "tls": "smtp/expired-certificate",
    "http": "web.toml",
}  # fmt: skip
FTP = {
    "ftp": "ftp/healthy",
    "stalled": "ftp/stalled-transfer",
    "late": "ftp/slow-replies",
    "ftps": "ftp/expired-certificate",
}
KNOBS = ("mute.outage=1h", "slow.delay=1h", "late.delay=1h", "tls.mode=implicit", "ftps.mode=implicit")
LOGIN = ((b"", b"220"), (b"USER a", b"331"), (b"PASS b", b"230"))
EACH = 5  # clients in each state
Address = tuple[str, int]


@contextmanager
def talked(address: Address, *lines: tuple[bytes, bytes]) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that has said these lines, each with the code of its reply, and the last reply. The first is the greeting."""
    with socket.create_connection(address, PATIENCE) as sock, sock.makefile("rb") as replies:
        said = b""
        for line, code in lines:
            sock.sendall(line + b"\r\n" if line else b"")
            said = replies.readline()
            assert said.startswith(code), said
        yield sock, said


@contextmanager
def silent(address: Address, begun: bytes = b"") -> Iterator[list[socket.socket]]:
    """A client that has sent this, and waits: for a greeting, a reply, or the rest of a handshake."""
    with socket.create_connection(address, PATIENCE) as sock:
        sock.sendall(begun)
        yield [sock]


@contextmanager
def idle(address: Address, *lines: tuple[bytes, bytes]) -> Iterator[list[socket.socket]]:
    with talked(address, *lines) as (sock, _):
        yield [sock]


@contextmanager
def in_a_message(address: Address) -> Iterator[list[socket.socket]]:
    envelope = ((b"", b"220"), (b"HELO x", b"250"), (b"MAIL FROM:<a@x>", b"250"), (b"RCPT TO:<b@x>", b"250"))
    with talked(address, *envelope, (b"DATA", b"354")) as (sock, _):
        sock.sendall(b"Subject: it is never\r\n")
        yield [sock]


@contextmanager
def in_a_transfer(address: Address, command: bytes) -> Iterator[list[socket.socket]]:
    """A download that nobody reads, or an upload that has begun."""
    with talked(address, *LOGIN, (b"EPSV", b"229")) as (sock, said):
        with socket.create_connection((address[0], int(said.split(b"|")[3])), PATIENCE) as data:
            sock.sendall(command + b"\r\n")
            if command.startswith(b"STOR"):
                data.sendall(b"x" * 10_000)
            else:
                assert data.recv(1)
            yield [sock, data]


@contextmanager
def in_a_request(address: Address, path: str, ca_file: str) -> Iterator[list[socket.socket]]:
    context = ssl.create_default_context(cafile=ca_file)
    with (
        socket.create_connection(address, PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield [tls]


def held(at: dict[str, Address], ca_file: str) -> Iterator[Any]:
    """One client in each state, of the servers that there are."""
    yield idle(at["smtp"], (b"", b"220"))
    yield in_a_message(at["smtp"])
    yield silent(at["mute"])
    yield silent(at["slow"])
    yield silent(at["tls"], CLIENT_HELLO)
    yield silent(at["http"], CLIENT_HELLO)
    for path in ("/delay/x", "/stall/x", "/drip/x"):
        yield in_a_request(at["http"], path, ca_file)
    if "ftp" in at:
        yield idle(at["ftp"], *LOGIN)
        yield idle(at["ftp"], *LOGIN, (b"EPSV", b"229"))
        yield in_a_transfer(at["ftp"], b"RETR big.bin")
        yield in_a_transfer(at["ftp"], b"STOR new.bin")
        yield in_a_transfer(at["stalled"], b"RETR big.bin")
        yield silent(at["late"])
        yield silent(at["ftps"], CLIENT_HELLO)


@contextmanager
def at_work(ports: Ports, seen: Seen, *jobs: Callable[..., None]) -> Iterator[None]:
    """Stock clients that send, fetch and ask in a loop, until the end of the block."""
    over = threading.Event()

    def work(number: int, job: Callable[..., None]) -> None:
        for i in range(10**6):
            if over.is_set():
                return
            job(ports, seen, [f"{number}-{i}-{j}" for j in range(5)], 10_000)

    threads = [threading.Thread(target=work, args=given) for given in enumerate(jobs)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def started(notnow: Notnow, count: int, copy: Path) -> tuple[dict[str, Address], str]:
    """Where each server listens, and a copy of the CA of the one that speaks HTTP, since the file goes when it stops."""
    events = [notnow.event() for _ in range(count)]
    copy.write_bytes(next(Path(e["ca_file"]).read_bytes() for e in events if e["name"] == "http"))
    return {e["name"]: (e["host"], e["port"]) for e in events}, str(copy)


def below(pid: int) -> list[int]:
    """The processes that any thread of this one has started, and theirs."""
    lists = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    children = [int(child) for one in lists for child in one]
    return [*children, *(process for child in children for process in below(child))]


def is_over(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except (ConnectionResetError, ssl.SSLError):
        pass  # also an end: of TCP, or of TLS without a goodbye
    return True


def told_before_any_is_waited_for(events: list[dict[str, Any]]) -> bool:
    """Whether all goodbyes come before the first end of a client that has none: one in a handshake is cut off after the wait."""
    told = {(e["server"], e["connection"]): i for i, e in enumerate(events) if e.get("fault") == "stopped"}
    closed = {(e["server"], e["connection"]): i for i, e in enumerate(events) if e.get("ended_by") == "fake"}
    cut_off = [i for key, i in closed.items() if key[0] == "http" and key not in told]
    assert len({server for server, _ in told}) > 5
    assert len(cut_off) >= EACH
    return max(told.values()) < min(cut_off)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_waited_for_and_nothing_is_left(workers: int, tmp_path: Path) -> None:
    temporary, files = tmp_path / "tmp", tmp_path / "files"
    temporary.mkdir()
    files.mkdir()
    (files / "small.txt").write_bytes(b"small")
    (files / "big.bin").write_bytes(bytes(30_000_000))
    servers = SERVERS | FTP if workers == 1 else SERVERS
    knobs = [f"--set={knob}" for knob in KNOBS if knob.partition(".")[0] in servers]
    own = [f"--files={name}={files}" for name in FTP if name in servers]
    (tmp_path / "web.toml").write_text(WEB)
    named = [
        f"{name}={tmp_path / scenario if scenario.endswith('.toml') else scenario}"
        for name, scenario in servers.items()
    ]
    seen = Seen()
    jobs = [
        clients.by_smtplib,
        clients.by_aiosmtplib,
        *(partial(clients.by_httpx, http2=http2) for http2 in (True, False)),
    ]
    jobs += [clients.by_ftplib] if workers == 1 else []
    with Notnow("serve", *named, *knobs, *own, f"--workers={workers}", "--json", TMPDIR=str(temporary)) as notnow:
        at, ca_file = started(notnow, len(servers), tmp_path / "ca.pem")
        ports = Ports(at["smtp"][1], at["ftp"][1] if "ftp" in at else 0, at["http"][1], ca_file)
        with ExitStack() as stack:
            socks = [sock for _ in range(EACH) for one in held(at, ca_file) for sock in stack.enter_context(one)]
            stack.enter_context(at_work(ports, seen, *jobs))
            while notnow.event():
                if seen.mail and seen.answers and (seen.uploads or workers > 1):
                    break
            processes = below(notnow.process.pid)
            began = time.monotonic()
            notnow.process.send_signal(signal.SIGTERM)
            code, rest, errors = notnow.end()
            print(
                f"{len(socks)} connections, {len(jobs)} clients at work: it ended {time.monotonic() - began:.2f} s after SIGTERM"
            )
            assert (code, errors) == (0, "")
            assert all(map(is_over, socks))
    if workers == 1:  # workers report what they have said at their end
        whole = rest.splitlines()[1:]  # the first is the end of a line that was being read
        assert told_before_any_is_waited_for([json.loads(line) for line in whole])
    assert (len(processes) > 0) is (workers > 1)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    for address in at.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE)
    assert list(temporary.iterdir()) == []
