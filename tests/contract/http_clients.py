"""Stock HTTP clients: how each is told what to ask for, and what it reports afterwards.

To add a client, write a function from `Job` to `Report` and name it in `CLIENTS`: every scenario of
test_http_clients.py is played to it from then on. A column of its own in the tables there is optional.
Chromium, which is more than a client, is in test_http_chromium.py.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import random
import re
import ssl
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import clients
import httpx
import pytest
from clients import PATIENCE, Client, Report

from notnow import FakeHTTP
from notnow.journal import Connection, Exchange

DONE = "done"
NOTHING = "nothing"  # it has no answer, and does not say why
UPLOAD = random.Random(9113).randbytes(200_000)  # what is posted: more than a window of HTTP/2 holds
PATH = "/thing"
NODE = Path(__file__).parent / "node"

Method = Literal["get", "post"]


@dataclass(frozen=True)
class Job:
    """What a client has to do, and how.

    `hosts` are asked one after the other, by one client. `h1`: HTTP/1.1, where it can do both. `retry`: it is told to
    try again, where it knows how to. `coalesce`: the hosts share a connection because the user has them do so. `wait`
    is in seconds.
    """

    host: str
    port: int
    ca_file: str
    folder: Path
    hosts: tuple[str, ...]
    method: Method = "get"
    body: bytes = UPLOAD
    h1: bool = False
    retry: bool = False
    coalesce: bool = False
    wait: int = PATIENCE
    options: tuple[str, ...] = ()  # further words, for this client alone

    @property
    def urls(self) -> list[str]:
        return [f"https://{host}:{self.port}{PATH}" for host in self.hosts]

    @property
    def content(self) -> bytes | None:
        return self.body if self.method == "post" else None

    @property
    def file(self) -> str | None:
        """The body as a file, for programs."""
        if self.method == "get":
            return None
        path = self.folder / "body.bin"
        path.write_bytes(self.body)
        return str(path)

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


def answered(status: int | None) -> str:
    return NOTHING if status is None else DONE if status == 200 else f"got {status}"


def summary(words: Iterable[str]) -> str:
    """How the requests of a job went, in a word if it went well."""
    words = list(words)
    return DONE if set(words) == {DONE} else ", ".join(words)


def named(error: BaseException) -> str:
    return type(error).__name__.removesuffix("Error")


# ---- Python -----------------------------------------------------------------------------------------


def _with_httpx(job: Job) -> Report:
    transport = httpx.HTTPTransport(http2=not job.h1, verify=job.context, retries=3 if job.retry else 0)
    words, text = [], []
    with httpx.Client(transport=transport, timeout=job.wait, trust_env=False) as client:
        for url in job.urls:
            try:
                response = client.request(job.method, url, content=job.content)
                words.append(answered(response.status_code))
                text.append(response.text)
            except httpx.HTTPError as error:
                words.append(named(error))
                text.append(str(error))
    return Report(summary(words), "\n".join(text))


def _with_async_httpx(job: Job) -> Report:
    return asyncio.run(_do_with_async_httpx(job))


async def _do_with_async_httpx(job: Job) -> Report:
    transport = httpx.AsyncHTTPTransport(http2=not job.h1, verify=job.context, retries=3 if job.retry else 0)
    words, text = [], []
    async with httpx.AsyncClient(transport=transport, timeout=job.wait, trust_env=False) as client:
        for url in job.urls:
            try:
                response = await client.request(job.method, url, content=job.content)
                words.append(answered(response.status_code))
                text.append(response.text)
            except httpx.HTTPError as error:
                words.append(named(error))
                text.append(str(error))
    return Report(summary(words), "\n".join(text))


def _with_aiohttp(job: Job) -> Report:
    with warnings.catch_warnings():  # of a transport, where TLS is not through when the session is closed
        warnings.simplefilter("ignore", ResourceWarning)
        report = asyncio.run(_do_with_aiohttp(job))
        gc.collect()
    return report


async def _do_with_aiohttp(job: Job) -> Report:
    """It speaks HTTP/1.1 only."""
    words, text = [], []
    timeout = aiohttp.ClientTimeout(total=job.wait)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=job.context), timeout=timeout) as session:
        for url in job.urls:
            try:
                async with session.request(job.method, url, data=job.content) as response:
                    text.append(await response.text())
                    words.append(answered(response.status))
            except (aiohttp.ClientError, TimeoutError) as error:
                words.append(named(error))
                text.append(str(error))
    return Report(summary(words), "\n".join(text))


# ---- programs ---------------------------------------------------------------------------------------


def _with_curl(job: Job) -> Report:
    """`--retry` is for what curl takes for passing, and a 421 is not among that; `--retry-all-errors` is for the rest."""
    data = ["--data-binary", f"@{job.file}"] if job.method == "post" else []
    done = clients.run(
        "curl", "-q", "--silent", "--show-error", "--verbose", "--noproxy", "*", "--cacert", job.ca_file,
        "--http1.1" if job.h1 else "--http2", "--max-time", str(job.wait),
        *(word for host in job.hosts for word in ("--resolve", f"{host}:{job.port}:{job.host}")),
        *(["--retry", "2"] if job.retry else []), *job.options, *data,
        "--write-out", r"%{stderr}= %{exitcode} %{http_code}\n", *job.urls, folder=job.folder,
    )  # fmt: skip
    ends = re.findall(r"(?m)^= (\d+) (\d+)$", done.stderr)
    words = (answered(int(status)) if code == "0" else f"exit {code}" for code, status in ends)
    return Report(summary(words), done.stdout + done.stderr)


def _with_nghttp(job: Job) -> Report:
    """It cannot be told where a host is, but by what other name it is to call an address. It trusts everybody."""
    (host,) = job.hosts
    data = ["--data", job.file] if job.file else []
    done = clients.run(
        "nghttp", "--verbose", "--no-dep", f"--timeout={job.wait}", f"--header=:authority: {host}:{job.port}",
        *job.options, *data, f"https://{job.host}:{job.port}{PATH}", folder=job.folder,
    )  # fmt: skip
    text = done.stdout + done.stderr
    statuses = re.findall(r":status: (\d+)", text)
    words = [answered(int(status)) for status in statuses]
    return Report(summary(words or [NOTHING if done.returncode == 0 else f"exit {done.returncode}"]), text)


def with_node(script: str) -> Callable[[Job], Report]:
    def do(job: Job) -> Report:
        told = {
            "host": job.host, "ca": job.ca_file, "body": job.file, "path": PATH, "h1": job.h1,
            "coalesce": job.coalesce, "origins": [url.removesuffix(PATH) for url in job.urls],
        }  # fmt: skip
        done = clients.run("node", str(NODE / script), json.dumps(told), folder=job.folder)
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        words = (x["error"] or answered(x["status"]) for x in outcomes)
        return Report(summary(words) if outcomes else f"exit {done.returncode}", done.stdout + done.stderr)

    return do


CLIENTS = {
    client.name: client
    for client in (
        Client("httpx", _with_httpx, cannot=frozenset({"coalesce"})),
        Client("httpx-async", _with_async_httpx, cannot=frozenset({"coalesce"})),
        Client("aiohttp", _with_aiohttp, cannot=frozenset({"coalesce", "retry"})),
        Client("curl", _with_curl, "curl", "curl", cannot=frozenset({"coalesce"})),
        Client(
            "nghttp", _with_nghttp, "nghttp", "nghttp2-client", frozenset({"twice", "both", "h1", "retry", "coalesce"})
        ),
        Client("node", with_node("http2_client.mjs"), "node", "nodejs", frozenset({"h1", "retry"})),
        Client("undici", with_node("undici_client.mjs"), "node", "nodejs", frozenset({"retry", "coalesce"}), "undici"),
    )
}

EVERYBODY = [pytest.param(client, id=client.name) for client in CLIENTS.values()]


def attempt(client: Client[Job], fake: FakeHTTP, folder: Path, way: str = "get", **more: Any) -> Report:
    """Have a client ask for something, and let the fake read what it has left behind.

    `way` is the method, and how it is to be done: `twice` asks one host two times, `both` two hosts; `h1`, `retry` and
    `coalesce` as in `Job`; `quick` is for a client that waits for a second only.
    """
    method, *words = way.split()
    how: dict[str, Any] = {word: True for word in ("h1", "retry", "coalesce") if word in words}
    if "quick" in words:
        how["wait"] = 1
    hosts = fake.hosts[:2] if "both" in words else fake.hosts[:1] * (2 if "twice" in words else 1)
    job = Job(fake.host, fake.port, fake.ca_file, folder, hosts, **{"method": method, **how, **more})
    with fake.resolving():
        report = client.do(job)
    fake.settle()
    return report


def assert_served_whole(fake: FakeHTTP) -> None:
    """Whatever was answered well had come in one piece, if it was an upload: first time or not."""
    for x in requests(fake):
        if x.facts and x.code == 200 and x.facts.method == "POST":
            assert x.facts.body_sha256 == digest(UPLOAD)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def requests(fake: FakeHTTP) -> list[Exchange]:
    return [x for x in fake.journal if x.moment == "request"]


def trail(fake: FakeHTTP) -> str:
    """What became of the requests: `,` between those of one connection, `;` where another connection's begin.

    A status; `RST`, the stream was reset; `GOAWAY`, it was not served; `cut`, the connection has ended, which may be
    before there was a request. A connection on which nothing was asked is none, unless a rule has ended it.
    """
    return ";".join(filter(None, map(_trail, fake.journal.connections)))


def _trail(connection: Connection) -> str:
    ends = [_end(x) for x in connection.exchanges if x.moment == "request"]
    refused = any(x.moment in ("connect", "tls") and x.fault and x.closed for x in connection.exchanges)
    return ",".join(ends or (["cut"] if refused else []))


def _end(x: Exchange) -> str:
    if x.code is not None:
        return str(x.code)
    word = (x.reply or "").partition("_")[0].partition(" ")[0]
    return word or ("cut" if x.closed else "-")
