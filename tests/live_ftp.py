"""What it takes for the faults of the scenarios for FTP to be met."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ftp_client import CarefulTransfer, Job, Raw, trusting
from live import Case, Knobs, Live, waiting
from notnow import FakeFTP
from notnow.servers.ftp.files import filling

Held = Callable[[FakeFTP], contextlib.AbstractContextManager[list[str]]]
Work = list[tuple[str, str, int]]  # verb, name, and how much of an upload

SMALL: Work = [("RETR", "small.txt", 0), ("STOR", "new.bin", 5_000)]
BIG: Work = [("RETR", "big.bin", 0), ("STOR", "new.bin", 1_500_000)]
EVERY: Work = [
    ("LIST", "/", 0),
    ("NLST", "/", 0),
    ("MLSD", "/", 0),
    *SMALL,
    ("APPE", "log.txt", 100),
    ("STOU", "", 100),
]


def _connections(n: int) -> Held:
    @contextlib.contextmanager
    def hold(fake: FakeFTP) -> Iterator[list[str]]:
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                assert stack.enter_context(Raw(fake)).reply().startswith("220")
            yield []

    return hold


def _sessions(n: int, user: str = "ann") -> Held:
    @contextlib.contextmanager
    def hold(fake: FakeFTP) -> Iterator[list[str]]:
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                stack.enter_context(Raw(fake)).hello(user)
            yield []

    return hold


@contextlib.contextmanager
def _a_session_that_does_nothing(fake: FakeFTP) -> Iterator[list[str]]:
    heard: list[str] = []
    with Raw(fake).hello() as raw:
        yield heard
        heard += raw.until_end().splitlines()


@contextlib.contextmanager
def _a_transfer_in_progress(fake: FakeFTP) -> Iterator[list[str]]:
    with Raw(fake).hello() as raw, raw.data() as data:
        assert raw.say("STOR held.bin")[0] == "1"
        yield []
        data.end()
        assert raw.reply().startswith("226")


def _says(*lines: str) -> Callable[[FakeFTP], list[str]]:
    """A client that says these lines whatever it hears, and reads to the end."""

    def witness(fake: FakeFTP) -> list[str]:
        with Raw(fake) as raw:
            raw.send("".join(f"{line}\r\n" for line in lines))
            raw.sock.shutdown(1)
            return raw.until_end().splitlines()

    return witness


def _never_logs_in(fake: FakeFTP) -> list[str]:
    with Raw(fake) as raw:
        assert raw.reply().startswith("220")
        fake.clock.advance("29s")
        assert raw.say("USER ann").startswith("331")  # which does not help
        fake.clock.advance("1s")
        return raw.until_end().splitlines()


def _never_connects(fake: FakeFTP) -> list[str]:
    with Raw(fake).hello() as raw:
        assert raw.say("PASV").startswith("227")
        fake.clock.advance("30s")
        heard = raw.reply()
        fake.clock.advance("30s")
        assert raw.say("NOOP").startswith("200")  # the session goes on, and nothing was said twice
        return [heard]


def careful(fake: FakeFTP, case: Case, _knobs: Knobs, **options: Any) -> CarefulTransfer:
    dawdle = (lambda: fake.clock.advance(case.dawdle)) if case.dawdle else None
    tls = trusting(fake) if case.tls else None
    way = str(fake.scenario.knobs.get("stage", "")).upper()
    ways = {"ways": (way, "PASV")} if way in ("EPSV", "PORT", "EPRT") else {}
    return CarefulTransfer(fake, waiting(fake.clock), tls=tls, dawdle=dawdle, **{**ways, **case.client, **options})


def deliver(client: CarefulTransfer, case: Case) -> bool:
    """Do the work; what came through has to be what was sent, byte for byte."""
    jobs = [Job(verb, name, filling(n)) for verb, name, n in case.work or SMALL]
    done = client.transfer(*jobs)
    for job in jobs if done else ():
        if not job.failed and job.verb not in ("LIST", "NLST", "MLSD"):
            assert client.fake.files[job.name] == job.content, job.name
    return done


def _accepted_and_closed(fake: FakeFTP) -> list[str]:
    with Raw(fake).hello() as raw:
        return [raw.put("STOR accepted-then-421.bin", b"x"), *raw.until_end().splitlines()]


TLS = Case(tls=True)
AS_ANN = {"user": "ann"}
ALL = Case(client={"chatty": True}, work=EVERY)
CASES = {
    "ftp/active-blocked": Case(client={"ways": ("PORT", "PASV")}),
    "ftp/at-stage": ALL,
    "ftp/auth-tls-refused": TLS,
    "ftp/bare-close": ALL,
    "ftp/busy": Case(fast=True),
    "ftp/by-name": Case(witness=_accepted_and_closed),
    "ftp/data-timeout": Case(client={"dawdle_at": "upload"}, dawdle="30s"),
    "ftp/expired-certificate": TLS,
    "ftp/idle-sessions": Case({"cap": 1}, holding=_a_session_that_does_nothing, stays=True),
    "ftp/idle-timeout": Case(dawdle="30s"),
    "ftp/killed-mid-download": Case(work=BIG),
    "ftp/killed-mid-upload": Case(work=BIG),
    "ftp/login-timeout": Case(witness=_never_logs_in),
    "ftp/maintenance": Case(dawdle="10s"),
    "ftp/max-login-attempts": Case(
        {"attempts": 2},
        {"user": "anna", "password": "secret"},
        witness=_says("USER anna", "PASS wrong", "USER anna", "PASS wrong", "USER anna", "PASS secret"),
    ),
    "ftp/no-transfer-timeout": Case(dawdle="30s"),
    "ftp/open-after-421": ALL,
    "ftp/passive-timeout": Case(witness=_never_connects),
    "ftp/plain-on-tls-port": TLS,
    "ftp/proftpd-connection-rate": Case({"connections": 1}, holding=_connections(1)),
    "ftp/proftpd-max-clients": Case({"cap": 1}, AS_ANN, holding=_sessions(1)),
    "ftp/proftpd-max-connections": Case({"cap": 1}, holding=_connections(1)),
    "ftp/proftpd-max-instances": Case({"cap": 1}, holding=_connections(1)),
    "ftp/quota-exceeded": Case(work=[("STOR", "fits.bin", 250_000), ("STOR", "new.bin", 1_000_000)]),
    "ftp/session-timeout": Case(client={"dawdle_at": "upload"}, dawdle="30s"),
    "ftp/shutdown": Case(work=BIG),
    "ftp/slow-replies": Case(fast=True),
    "ftp/stalled-greeting": Case(fast=True),
    "ftp/stalled-transfer": Case(client={"patience": 0.25}, work=BIG),
    "ftp/tls-handshake-refused": TLS,
    "ftp/tls-required": Case(tls=True, witness=_says("USER ann", "PASS word", "QUIT")),
    "ftp/too-many-per-client": Case({"cap": 2}, holding=_connections(2)),
    "ftp/too-many-per-user": Case({"cap": 1}, AS_ANN, holding=_sessions(1)),
    "ftp/too-many-transfers": Case({"cap": 1}, holding=_a_transfer_in_progress),
    "ftp/too-many-users": Case({"cap": 1}, holding=_sessions(1)),
    "ftp/untrusted-certificate": TLS,
    "ftp/weather": Case({"late": "0%"}, work=BIG),
    "ftp/wrong-certificate": TLS,
}

_BEFORE = ["connect", "user", "pass", "login", "type", "cwd", "pasv", "epsv", "port", "eprt"]
_EVERYWHERE = [
    *_BEFORE, "rest", "size", "retr", "stor", "appe", "stou", "list", "nlst", "mlsd", "transfer", "noop", "quit",
]  # fmt: skip
_ENDINGS: list[Knobs] = [{"data": how} for how in ("fin", "reset", "drain")]

FTP = Live(
    fake=FakeFTP,
    cases=CASES,
    silent=frozenset(
        {
            "ftp/bare-close",
            "ftp/max-login-attempts",
            "ftp/proftpd-connection-rate",
            "ftp/proftpd-max-instances",
        }
    ),
    stages={
        "ftp/at-stage": _EVERYWHERE,
        "ftp/bare-close": _EVERYWHERE,
        "ftp/open-after-421": [*_BEFORE[1:], "retr", "stor", "list"],
        "ftp/too-many-users": ["connect", "user", "login"],
    },
    more={
        "ftp/data-timeout": _ENDINGS,
        "ftp/killed-mid-download": _ENDINGS,
        "ftp/killed-mid-upload": [*_ENDINGS, {"keep": False}],
    },
    careless=[
        "ftp/overload",
        "ftp/busy",
        "ftp/at-stage",
        "ftp/bare-close",
        "ftp/kicked",
        "ftp/killed-mid-download",
        "ftp/killed-mid-upload",
        "ftp/shutdown",
        "ftp/storage-full",
        "ftp/stalled-transfer",
    ],
    client=careful,
    deliver=deliver,
)
