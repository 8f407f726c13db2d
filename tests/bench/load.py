"""The loads that Postfix's smtp-source cannot make, each in a process of its own.

python -m tests.bench.load refused PORT SECONDS    connect, read 421 and the end, close; again and again
python -m tests.bench.load idle PORT COUNT         connect so many times, read the greetings, hold
python -m tests.bench.load idle-h2 PORT COUNT      the same over HTTP/2 in TLS, after the SETTINGS
python -m tests.bench.load list PORT SECONDS       FTP: log in, PASV, LIST, QUIT; again and again
python -m tests.bench.load retr PORT SECONDS       FTP: log in, PASV, RETR of big.bin, QUIT; again and again
python -m tests.bench.load anonymous PORT SECONDS  FTP: the same as list, logged in as anonymous
python -m tests.bench.load get PORT SECONDS        HTTP/1.1: connect, GET, read to the end; again and again
"""

from __future__ import annotations

import json
import resource
import select
import socket
import ssl
import sys
import time
from typing import BinaryIO

WIDTH = 50  # connections at a time
ADDRESS = "127.0.0.1"


def refused(port: int, seconds: float) -> dict[str, float]:
    """How many connections were told 421 and closed in that time.

    epoll wakes us at the end of what the server says, so a connection costs five system calls and next to no
    Python: nearly all of this process is the kernel, which opens connections for both sides here.
    """
    poll, live = select.epoll(), dict[int, socket.socket]()
    nonblocking = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    said, count = bytearray(256), 0

    def connect() -> None:
        sock = socket.socket(socket.AF_INET, nonblocking)
        sock.connect_ex((ADDRESS, port))
        live[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLRDHUP)

    for _ in range(WIDTH):
        connect()
    start = time.perf_counter()
    end = start + seconds
    while time.perf_counter() < end:
        for number, _ in poll.poll():
            sock = live.pop(number)
            length = sock.recv_into(said)
            if said[:3] != b"421":
                raise SystemExit(f"expected a 421, found {bytes(said[:length])!r}")
            sock.close()
            count += 1
            connect()
    took = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"count": count, "seconds": took, "busy": (usage.ru_utime + usage.ru_stime) / took}


def idle(port: int, count: int) -> None:
    """Hold so many connections after their greeting; says how many on standard output, until standard input ends."""
    held = []
    for _ in range(count):
        sock = socket.create_connection((ADDRESS, port))
        if sock.recv(512)[:3] != b"220":
            raise SystemExit("expected a greeting")
        held.append(sock)
    print(json.dumps(len(held)), flush=True)
    sys.stdin.read()


def idle_h2(port: int, count: int) -> None:
    """`idle` for HTTP/2 in TLS (RFC 9113 §3.4): the preface is sent, and the server's SETTINGS have been read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    held = []
    for _ in range(count):
        sock = context.wrap_socket(socket.create_connection((ADDRESS, port)))
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        if sock.recv(512)[3:4] != b"\4":
            raise SystemExit("expected SETTINGS")
        held.append(sock)
    print(json.dumps(len(held)), flush=True)
    sys.stdin.read()


def get(port: int, seconds: float) -> dict[str, float]:
    """How many requests, each on a connection of its own, were answered in that time."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        with socket.create_connection((ADDRESS, port)) as sock, sock.makefile("rb") as answer:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if answer.read()[9:12] not in (b"200", b"421"):
                raise SystemExit("expected a 200 or a 421")
        count += 1
    return {"count": count, "seconds": time.perf_counter() - start}


def ftp(port: int, seconds: float, command: bytes, user: bytes = b"user") -> dict[str, float]:
    """How many FTP sessions with one transfer each, one after the other, were over in that time."""
    buffer, count = bytearray(1 << 20), 0
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        with socket.create_connection((ADDRESS, port)) as sock, sock.makefile("rb") as replies:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _reply(replies, b"220")
            for line, code in (
                (b"USER " + user, b"331"),
                (b"PASS word", b"230"),
                (b"TYPE I", b"200"),
                (b"PASV", b"227"),
            ):
                sock.sendall(line + b"\r\n")
                said = _reply(replies, code)
            high, low = said.partition(b"(")[2].partition(b")")[0].split(b",")[4:]
            with socket.create_connection((ADDRESS, int(high) * 256 + int(low))) as data:
                sock.sendall(command + b"\r\n")
                _reply(replies, b"1")
                while data.recv_into(buffer):
                    pass
            _reply(replies, b"226")
            sock.sendall(b"QUIT\r\n")
            _reply(replies, b"221")
        count += 1
    return {"count": count, "seconds": time.perf_counter() - start}


def _reply(replies: BinaryIO, code: bytes) -> bytes:
    line = replies.readline()
    if not line.startswith(code):
        raise SystemExit(f"expected {code!r}, found {line!r}")
    return line


def main() -> None:
    kind, port, amount = sys.argv[1:]
    if kind == "refused":
        print(json.dumps(refused(int(port), float(amount))))
    elif kind == "get":
        print(json.dumps(get(int(port), float(amount))))
    elif kind == "anonymous":
        print(json.dumps(ftp(int(port), float(amount), b"LIST", b"anonymous")))
    elif kind in ("list", "retr"):
        print(json.dumps(ftp(int(port), float(amount), b"LIST" if kind == "list" else b"RETR big.bin")))
    elif kind == "idle-h2":
        idle_h2(int(port), int(amount))
    else:
        idle(int(port), int(amount))


if __name__ == "__main__":
    main()
