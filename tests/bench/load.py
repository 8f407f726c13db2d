"""The loads that Postfix's smtp-source cannot make, each in a process of its own.

python -m tests.bench.load refused PORT SECONDS    connect, read 421 and the end, close; again and again
python -m tests.bench.load idle PORT COUNT         connect so many times, read the greetings, hold
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time

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


def main() -> None:
    kind, port, amount = sys.argv[1:]
    if kind == "refused":
        print(json.dumps(refused(int(port), float(amount))))
    else:
        idle(int(port), int(amount))


if __name__ == "__main__":
    main()
