"""What it takes for the faults of the scenarios for HTTP to be met."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from http_client import H2, PATIENCE, Answer
from live import Case, Knobs, Live, waiting
from notnow import FakeHTTP

Job = tuple[str, str, str, int]  # method, host, path, and how much of a body
REPEATABLE = ("GET", "PUT")  # of the methods that are used here (RFC 9110 §9.2.2)

BOTH: list[Job] = [("GET", "localhost", "/", 0), ("POST", "localhost", "/new", 20_000)]


@dataclass
class CarefulFetch:
    """A client that comes back as it should, on a connection made for the host.

    `coalesces`: it asks one connection for all hosts until it is told 421 there. `follows`: it goes to the alternative
    services that it is told of. `resigns`: it takes a second 421 for the answer (which a client may do always).
    """

    fake: FakeHTTP
    wait: Callable[[float], object]
    most: int = 12
    patience: float = PATIENCE
    coalesces: bool = False
    follows: bool = False
    resigns: bool = False
    heard: list[str] = field(default_factory=list)
    lost: list[BaseException] = field(default_factory=list)
    _pool: dict[str, H2] = field(default_factory=dict)  # by what each was made for
    _alternatives: dict[str, str] = field(default_factory=dict)
    _apart: set[str] = field(default_factory=set)  # hosts that have been told 421 on the connection of another

    def fetch(self, job: Job) -> bool:
        for n in range(self.most):
            connection = answer = None
            with contextlib.suppress(OSError):
                connection, answer = self._try(job)
            if answer is not None and answer.ended and answer.status is not None and answer.status < 400:
                return True
            if self.resigns and [words[:3] for words in self.heard[-2:]] == ["421", "421"]:
                return True
            if not self._may_repeat(job, connection, answer):
                return False
            self.wait(self._how_long(answer) or 2.0**n)
        return False

    def close(self) -> None:
        while self._pool:
            self._pool.popitem()[1].close()

    def _try(self, job: Job) -> tuple[H2, Answer]:
        """One try. Raises OSError where there is no connection."""
        method, host, path, size = job
        alternative = self._alternatives.get(host)
        key = alternative or ("" if self.coalesces and host not in self._apart else host)
        try:
            connection = self._pool.get(key) or self._pool.setdefault(
                key, H2(self.fake, sni=host, check_name=True, patience=self.patience)
            )
            headers = [("alt-used", alternative)] if alternative else []
            headers += [("content-length", str(size))] if size else []
            body = b"x" * size if size else None
            number = connection.request(path, body, method=method, host=host, headers=headers)
            answer = connection.outcome(number)
        except OSError as error:
            self.lost.append(error)
            if (gone := self._pool.pop(key, None)) is not None:
                gone.close()
            raise
        self._hear(connection, answer, host, key, alternative)
        return connection, answer

    def _hear(self, connection: H2, answer: Answer, host: str, key: str, alternative: str | None) -> None:
        if answer.status is not None and answer.status >= 400:
            self.heard.append(written(answer))
        elif self.follows and (named := re.search(r'h2="([^"]+)"', answer.headers.get("alt-svc", ""))):
            self._alternatives[host] = named[1]
        if answer.reset:
            self.heard.append(f"RST_STREAM {answer.reset}")
        if connection.farewells:
            self.heard.append(f"GOAWAY {connection.farewells[-1][1]}")
        if connection.how_ended:
            self.lost.append(ConnectionError(connection.how_ended))
        if answer.status == 421:
            self._apart.add(host)
            if alternative:  # and what Alt-Svc says in a 421 has no meaning (RFC 7838 §6)
                del self._alternatives[host]
                self.follows = False
        if connection.farewells or connection.how_ended or (answer.status == 421 and not self.coalesces):
            self._pool.pop(key).close()

    @staticmethod
    def _may_repeat(job: Job, connection: H2 | None, answer: Answer | None) -> bool:
        """True if it is safe, or the request has not been carried out."""
        if job[0] in REPEATABLE or connection is None or answer is None or answer.status is not None:
            return True
        return answer.reset == "REFUSED_STREAM" or bool(connection.farewells)

    @staticmethod
    def _how_long(answer: Answer | None) -> float:
        """What Retry-After says, in seconds; in a 421 it means nothing."""
        said = answer.headers.get("retry-after", "") if answer is not None and answer.status != 421 else ""
        if said and answer is not None and not said.isdecimal():
            now = parsedate_to_datetime(answer.headers["date"])
            return (parsedate_to_datetime(said) - now).total_seconds() + 1
        return float(said or 0)


def written(answer: Answer) -> str:
    """An answer line by line; a status alone where there is no more to it than to every answer."""
    said = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    lines = [str(answer.status), *(f"{name}: {value}" for name, value in said.items()), answer.body.decode()]
    return "\n".join(lines).replace("\r\n", "\n").rstrip("\n")


def _asks(
    sni: str | None, host: str, *, check_name: bool = True, again: bool = False
) -> Callable[[FakeHTTP], list[str]]:
    """A careless client: on a connection made for `sni` it asks for `host`. `again`: what is expected begins after it."""

    def witness(fake: FakeHTTP) -> list[str]:
        with H2(fake, sni=sni, check_name=check_name) as client:
            heard = [written(client.get(host=host))]
        if again:
            fake.play(fake.scenario)
        return heard

    return witness


def _asks_too_much_at_a_time(fake: FakeHTTP) -> list[str]:
    with H2(fake) as client:
        held = [client.request(f"/{n}", method="PUT", end=False) for n in range(2)]
        refused = client.get("/2", method="PUT")
        for number in held:
            client.upload(number, b"x")
            assert client.answer(number).status == 200
        assert client.get("/2", method="PUT").status == 200
        return [f"RST_STREAM {refused.reset}"]


def _asks_for_each(*paths: str) -> Callable[[FakeHTTP], list[str]]:
    """A client that asks for what it wants to meet, on a connection each."""

    def witness(fake: FakeHTTP) -> list[str]:
        heard = []
        for path in paths:
            with H2(fake) as client:
                answer = client.outcome(client.request(path))
                heard.append(written(answer) if answer.status else f"RST_STREAM {answer.reset}")
                heard += [f"GOAWAY {code}" for _, code in client.farewells]
        return heard

    return witness


@contextlib.contextmanager
def _a_connection(fake: FakeHTTP) -> Iterator[list[str]]:
    with H2(fake) as client:
        assert client.get("/held").status == 200
        yield []


def careful(fake: FakeHTTP, case: Case, _knobs: Knobs, **options: Any) -> CarefulFetch:
    return CarefulFetch(fake, waiting(fake.clock), **{**case.client, **options})


def deliver(client: CarefulFetch, case: Case) -> bool:
    with contextlib.closing(client):
        return all(client.fetch(job) for job in case.work or BOTH)


def of(*hosts: str) -> list[Job]:
    return [("GET", host, "/", 0) for host in hosts]


SITE = Case(work=of("site.test"))
A_AND_B = of("a.site.test", "b.site.test")
CASES = {
    "http/alt-svc": Case(client={"follows": True}, work=[*A_AND_B, *of("a.site.test")]),
    "http/api-rate-limited": Case({"requests": 1}),
    "http/busy": Case(fast=True),
    "http/by-path": Case(
        {"tls": "implicit"},
        witness=_asks_for_each(
            "/404/", "/500/", "/502/", "/504/", "/reset/", "/refused/", "/goaway/", "/goaway/unserved/"
        ),
    ),
    "http/certificate-mismatch": Case(work=A_AND_B, witness=_asks("a.site.test", "b.site.test")),
    "http/coalesced": Case(client={"coalesces": True}, work=A_AND_B),
    "http/connection-cap": Case({"cap": 1}, holding=_a_connection),
    "http/domain-fronting": Case(
        work=of("hidden.site.test"), witness=_asks("front.site.test", "hidden.site.test", again=True)
    ),
    "http/expired-certificate": SITE,
    "http/goaway-graceful": Case({"requests": 1}),
    "http/goaway-two-steps": Case({"announced": 1}),
    "http/incomplete-chain": SITE,
    "http/invalid-host": Case({"tls": "implicit"}, client={"resigns": True}, work=of("gateway.test")),
    "http/misdirected-forever": Case(client={"resigns": True}),
    "http/no-sni": Case(work=of("a.site.test"), witness=_asks(None, "a.site.test", again=True)),
    "http/rate-limited": Case({"requests": 1}),
    "http/slow-drip": Case(work=of("localhost"), fast=True),
    "http/sni-mismatch": Case(work=A_AND_B, witness=_asks("a.site.test", "b.site.test")),
    "http/stale-certificate": Case(
        {"handshakes": 2}, work=of("new.site.test"), witness=_asks("new.site.test", "new.site.test", check_name=False)
    ),
    "http/stalled": Case(client={"patience": 0.25}, work=[("PUT", "localhost", "/new", 20_000)]),
    "http/stream-cap": Case(witness=_asks_too_much_at_a_time),
    "http/unrecognized-name": SITE,
    "http/untrusted-certificate": SITE,
    "http/weather": Case({"late": "0%"}, work=of("localhost") * 12),
}
_ENDS = ("fin", "reset", "abrupt")

HTTP = Live(
    fake=FakeHTTP,
    cases=CASES,
    silent=frozenset({"http/connection-reset"}),
    stages={
        "http/connection-reset": ["connect", "tls", "request", "response"],
        "http/stalled": ["connect", "request", "response"],
        "http/stream-reset": ["request", "response"],
    },
    more={
        "http/connection-reset": [{"stage": stage, "how": how} for stage in ("tls", "request") for how in _ENDS],
        "http/stalled": [{"stage": "response", "how": "amid"}],
        "http/stream-reset": [{"code": code} for code in ("CANCEL", "INTERNAL_ERROR", "ENHANCE_YOUR_CALM")],
    },
    careless=[
        "http/connection-reset",
        "http/api-overloaded",
        "http/early-421",
        "http/event-stream-cut",
        "http/goaway-mid-request",
        "http/misdirected-post",
        "http/misdirected-times",
        "http/busy",
        "http/overload",
        "http/stalled",
        "http/stream-reset",
        "http/truncated",
    ],
    client=careful,
    deliver=deliver,
)
