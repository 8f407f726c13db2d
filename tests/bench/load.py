"""The loads that Postfix's smtp-source cannot make, each in a process of its own.

python -m tests.bench.load refused PORT SECONDS    connect, read 421 and the end, close; again and again
python -m tests.bench.load idle PORT COUNT [tls|h2] connect so many times, read the greetings, hold; `h2` is in TLS
python -m tests.bench.load list PORT SECONDS       FTP: log in, PASV, LIST, QUIT; again and again
python -m tests.bench.load retr PORT SECONDS       FTP: log in, PASV, RETR of big.bin, QUIT; again and again
python -m tests.bench.load stor PORT SECONDS       FTP: log in, PASV, STOR of 10 MB, QUIT; again and again
python -m tests.bench.load anonymous PORT SECONDS  FTP: the same as list, logged in as anonymous
python -m tests.bench.load get PORT SECONDS        HTTP/1.1: connect, GET, read to the end; again and again
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import ssl
import sys
import time
from typing import BinaryIO

WIDTH = 50  # connections at a time
ADDRESS = "127.0.0.1"
SOURCES = 4  # addresses of clients
BIG = 10_000_000  # bytes that are uploaded
MORE = 51  # connections whose delay is measured
# The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113 §3.4), then the acknowledgement of the server's.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0"


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


def idle(port: int, count: int, how: str = "") -> None:
    """Hold so many connections after their greeting, until standard input ends.

    Prints how many, and the milliseconds in which one more is greeted (the median of `MORE`).
    """
    context = _trusting(how == "h2") if how else None
    held = [_greeted(port, number, context, how) for number in range(count)]
    delays = []
    for number in range(MORE):
        start = time.perf_counter()
        _greeted(port, number, context, how).close()
        delays.append((time.perf_counter() - start) * 1e3)
    print(json.dumps([len(held), sorted(delays)[MORE // 2]]), flush=True)
    sys.stdin.read()
    os._exit(0)  # the system closes them, in no time


def _trusting(h2: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if h2:
        context.set_alpn_protocols(["h2"])
    return context


def _greeted(port: int, number: int, context: ssl.SSLContext | None, how: str) -> socket.socket:
    """A connection from one of several addresses, each of which has its own ports."""
    source = (f"127.0.0.{2 + number % SOURCES}", 0)
    sock: socket.socket = socket.create_connection((ADDRESS, port), timeout=120, source_address=source)
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname="localhost")
    if how == "h2":
        sock.sendall(PREFACE)
        if len(sock.recv(512)) < 9:
            raise SystemExit("expected a SETTINGS frame")
    elif sock.recv(512)[:3] != b"220":
        raise SystemExit("expected a greeting")
    return sock


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


def ftp(
    port: int, seconds: float, command: bytes, user: bytes = b"user", upload: bytes | None = None
) -> dict[str, float]:
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
                if upload is not None:
                    data.sendall(upload)
                while upload is None and data.recv_into(buffer):
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
    kind, port, amount, *rest = sys.argv[1:]
    if kind == "refused":
        print(json.dumps(refused(int(port), float(amount))))
    elif kind == "get":
        print(json.dumps(get(int(port), float(amount))))
    elif kind == "anonymous":
        print(json.dumps(ftp(int(port), float(amount), b"LIST", b"anonymous")))
    elif kind == "stor":
        print(json.dumps(ftp(int(port), float(amount), b"STOR %d.bin" % os.getpid(), upload=bytes(BIG))))
    elif kind in ("list", "retr"):
        print(json.dumps(ftp(int(port), float(amount), b"LIST" if kind == "list" else b"RETR big.bin")))
    else:
        idle(int(port), int(amount), *rest)


if __name__ == "__main__":
    main()
