"""Beside what people would pick instead: start time, a session, and a refusal, each server in a process of its own.

`python -m tests.bench peers` prints the table. A peer that is not installed is named, with how to get it; those in Python belong
into a virtual environment of their own, since the plugin of pytest-localftpserver breaks pytest where warnings are errors.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tests.bench.processes import PATIENCE, ROOT, module, program, unused_port
from tests.bench.sessions import rate
from tests.bench.table import Skip

Kind = Literal["healthy", "refusing"]
# The command of a server that listens on this port of 127.0.0.1, and may keep files in the folder. Raises Skip.
Command = Callable[[Kind, int, Path], Sequence[str]]

SMTP_SERVER = """
const { SMTPServer } = require('smtp-server');
const refuse = callback => callback(Object.assign(new Error('All server ports are busy'), { responseCode: 421 }));
new SMTPServer({
  authOptional: true, disableReverseLookup: true, logger: false, maxClients: 10000,
  onConnect: (session, callback) => process.argv[2] === 'refusing' ? refuse(callback) : callback(),
  onData: (stream, session, callback) => { stream.resume(); stream.on('end', callback); },
}).listen(Number(process.argv[3]), '127.0.0.1');
"""
MOCKTTP = """
const server = require('mockttp').getLocal();
server.start(Number(process.argv[3])).then(
  () => server.forGet('/').always().thenReply(process.argv[2] === 'refusing' ? 421 : 200, 'said'));
"""
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{}}
http {{
  access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  server {{ listen 127.0.0.1:{port}; location / {{ return {status} said; }} }}
}}
"""
VSFTPD = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=NO
anon_root={home}
secure_chroot_dir={home}
max_clients={most}
seccomp_sandbox=NO
"""


@dataclass(frozen=True)
class Peer:
    """A server to compare with. `refuses`: it can be told to say 421."""

    name: str
    protocol: str
    command: Command
    refuses: bool = True


def notnow(protocol: str, on: str, fault: str) -> Peer:
    def command(kind: Kind, port: int, home: Path) -> Sequence[str]:
        rule = f'[[phase.rule]]\non = "{on}"\n{fault}\n' if kind == "refusing" else ""
        tls = '[server]\ntls = "none"\n'
        scenario = home / "peer.toml"
        scenario.write_text(f'summary = "A peer."\nprotocol = "{protocol}"\n{tls}[[phase]]\nname = "only"\n{rule}')
        return [sys.executable, "-m", "notnow", "serve", str(scenario), "--port", str(port)]

    return Peer("notnow serve", protocol, command)


def node(package: str, script: str) -> Command:
    def command(kind: Kind, port: int, home: Path) -> Sequence[str]:
        found = subprocess.run([program("node", "nodejs"), "-e", f"require.resolve('{package}')"], capture_output=True)
        if found.returncode:
            raise Skip(f"needs {package}: npm install {package}, with its node_modules in NODE_PATH")
        (home / "server.js").write_text(script)
        return ["node", str(home / "server.js"), kind, str(port)]

    return command


def python(package: str) -> Command:
    def command(kind: Kind, port: int, _home: Path) -> Sequence[str]:
        if find_spec(package.replace("-", "_")) is None:
            raise Skip(f"needs {package}: pip install {package}")
        return [sys.executable, "-m", "tests.bench.peer_servers", package, kind, str(port)]

    return command


def nginx(kind: Kind, port: int, home: Path) -> Sequence[str]:
    conf = home / "nginx.conf"
    conf.write_text(NGINX.format(port=port, status=421 if kind == "refusing" else 200))
    return [program("nginx", "nginx-light"), "-p", str(home), "-c", str(conf), "-e", "stderr"]


def vsftpd(kind: Kind, port: int, home: Path) -> Sequence[str]:
    (home / "small.txt").write_text("small")
    home.chmod(0o555)
    conf = home / "vsftpd.conf"
    conf.write_text(VSFTPD.format(port=port, home=home, most=1 if kind == "refusing" else 0).lstrip())
    return [program("vsftpd", "vsftpd"), str(conf)]


def mailpit(_kind: Kind, port: int, _home: Path) -> Sequence[str]:
    if shutil.which("mailpit") is None:
        raise Skip("needs mailpit: a binary of its releases, in the PATH")
    page = f"127.0.0.1:{unused_port()}"
    return ["mailpit", "--smtp", f"127.0.0.1:{port}", "--listen", page, "--disable-version-check", "--quiet"]


PEERS = (
    notnow("smtp", "connect", 'reply = "421 4.3.2 All server ports are busy"'),
    Peer("npm smtp-server", "smtp", node("smtp-server", SMTP_SERVER)),
    Peer("Mailpit", "smtp", mailpit, refuses=False),
    notnow("ftp", "connect", 'reply = "421 Too many users"'),
    Peer("vsftpd", "ftp", vsftpd),
    Peer("pytest-localftpserver", "ftp", python("pytest-localftpserver"), refuses=False),
    notnow("http", "request", "status = 421"),
    Peer("nginx", "http", nginx),
    Peer("npm mockttp", "http", node("mockttp", MOCKTTP)),
    Peer("pytest-httpserver", "http", python("pytest-httpserver")),
)


@contextlib.contextmanager
def served(peer: Peer, kind: Kind) -> Iterator[tuple[int, float]]:
    """The port of a peer that accepts clients, and how many ms its start has taken. Raises Skip where it is missing."""
    with tempfile.TemporaryDirectory() as name:
        home, port = Path(name), unused_port()
        command = list(peer.command(kind, port, home))
        begun = time.perf_counter()
        with (home / "log").open("wb") as log:
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _until_accepting(port, child, home / "log")
            yield port, (time.perf_counter() - begun) * 1e3
        finally:
            child.terminate()
            child.wait(PATIENCE)
            home.chmod(0o755)


def _until_accepting(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Connect until that works; from another address, since a connection from the same port would be one to itself."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)),
        ):
            return
        time.sleep(0.001)
    raise RuntimeError(f"does not listen: {log.read_text(errors='replace')[-500:]}")


def sessions(protocol: str, port: int, seconds: float) -> float:
    """Healthy sessions a second: a message by smtp-source, a listing, a request on a connection of its own."""
    if protocol == "smtp":
        return rate(port, int(400 * seconds))
    done = module("load", "anonymous" if protocol == "ftp" else "get", port, seconds)
    return float(done["count"] / done["seconds"])


def refusals(protocol: str, port: int, seconds: float) -> float:
    """421s a second: at connect, or to a request on a connection of its own."""
    done = module("load", "get" if protocol == "http" else "refused", port, seconds)
    return float(done["count"] / done["seconds"])


def measure(peer: Peer, quick: bool) -> tuple[str, ...]:
    """The cells of a peer: ms of its start, sessions and refusals a second."""
    rounds, seconds = (2, 0.3) if quick else (5, 1.0)
    starts, done, refused = [], [], []
    for _ in range(rounds):
        with served(peer, "healthy") as (port, took):
            starts.append(took)
            done.append(sessions(peer.protocol, port, seconds))
        if peer.refuses:
            with served(peer, "refusing") as (port, _), taken(peer, port):
                refused.append(refusals(peer.protocol, port, seconds))
    cells = f"{statistics.median(starts):,.0f} ms", f"{statistics.median(done):,.0f} /s"
    return (*cells, f"{statistics.median(refused):,.0f} /s" if refused else "cannot")


@contextlib.contextmanager
def taken(peer: Peer, port: int) -> Iterator[None]:
    """vsftpd refuses only while its one place is taken; it may need a moment to see that the last client has left."""
    deadline = time.monotonic() + PATIENCE
    while peer.name == "vsftpd":
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            if sock.recv(512).startswith(b"220"):
                yield
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"its one place was not free again after {PATIENCE} s")
        time.sleep(0.01)
    yield


def report(quick: bool) -> str:
    """The table, and below it the peers that are not here."""
    lines, missing = [("protocol", "server", "start", "sessions", "refusals")], []
    for peer in PEERS:
        print(f"… {peer.protocol}: {peer.name}", file=sys.stderr, flush=True)
        try:
            lines.append((peer.protocol, peer.name, *measure(peer, quick)))
        except Skip as skip:
            missing.append(f"{peer.name} is not installed: it {skip}")
        except (RuntimeError, subprocess.CalledProcessError) as error:  # the other rows are worth having all the same
            missing.append(f"{peer.name} has failed: {error}")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *missing])
