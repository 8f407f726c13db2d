"""Stock FTP clients: how each is told to get, put or list, and what it reports afterwards.

To add a client, write a function from `Job` to `Report` and name it in `CLIENTS`: every scenario of
test_ftp_clients.py is played to it from then on. A column of its own in the tables there is optional.
"""

from __future__ import annotations

import asyncio
import ftplib
import hashlib
import random
import ssl
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import aioftp
import clients
import pytest
from clients import PATIENCE, Client, Encryption, Report

from notnow import FakeFTP

DONE = "done"
UPLOAD = random.Random(959).randbytes(3_000_000)  # what is put
BLOCK = 16_384

Task = Literal["get", "put", "list"]
NAMES: dict[Task, str] = {"get": "big.bin", "put": "up.bin", "list": ""}


@dataclass(frozen=True)
class Job:
    """A file to get or to put, or a directory to list.

    `name` is the file's on both sides; the client's own is in `folder`. `resume`: go on where it ended. `active`:
    the server connects to the client for the data. `classic`: no EPSV and EPRT, but PASV and PORT. `tries`: how often
    a client that knows how to may try by itself, a second apart. `wait`: how many seconds it waits for a silent
    server. `rate`: how many bytes a second it moves.
    """

    host: str
    port: int
    ca_file: str
    folder: Path
    task: Task = "get"
    name: str = "big.bin"
    tls: Encryption = "none"
    user: str = "anonymous"
    password: str = "alice@client.test"
    active: bool = False
    classic: bool = False
    resume: bool = False
    tries: int = 1
    wait: int = PATIENCE
    rate: int | None = None
    options: tuple[str, ...] = ()  # further words, for this client alone

    @cached_property
    def file(self) -> Path:
        return self.folder / self.name

    @property
    def offset(self) -> int:
        """How much there is of the file that is got, where it is to be resumed."""
        return self.file.stat().st_size if self.resume and self.file.exists() else 0

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


# ---- Python -----------------------------------------------------------------------------------------


def _with_ftplib(job: Job) -> Report:
    with clients.untidy():
        return _do_with_ftplib(job)


def _do_with_ftplib(job: Job) -> Report:
    text: list[str] = []
    try:
        with _open(job) as ftp:
            ftp.set_pasv(not job.active)
            _FTPLIB[job.task](ftp, job, text)
    except ftplib.all_errors as error:
        return Report(_named(error, str(error)[:3]), str(error))
    return Report(DONE, "\n".join(text))


def _open(job: Job) -> ftplib.FTP:
    ftp = ftplib.FTP(timeout=job.wait) if job.tls == "none" else ftplib.FTP_TLS(timeout=job.wait, context=job.context)
    try:
        ftp.connect(job.host, job.port)
        ftp.login(job.user, job.password)
        if isinstance(ftp, ftplib.FTP_TLS):
            ftp.prot_p()
    except BaseException:
        ftp.close()
        raise
    return ftp


def _ftplib_gets(ftp: ftplib.FTP, job: Job, text: list[str]) -> None:
    with job.file.open("ab" if job.resume else "wb") as file:

        def write(block: bytes) -> None:
            file.write(block)
            _slow_down(block, job)

        ftp.retrbinary(f"RETR {job.name}", write, BLOCK, rest=job.offset or None)


def _ftplib_puts(ftp: ftplib.FTP, job: Job, text: list[str]) -> None:
    ftp.voidcmd("TYPE I")  # or SIZE would be refused
    offset = (ftp.size(job.name) or 0) if job.resume else 0
    with job.file.open("rb") as file:
        file.seek(offset)
        ftp.storbinary(f"STOR {job.name}", file, BLOCK, lambda block: _slow_down(block, job), rest=offset or None)


def _slow_down(block: bytes, job: Job) -> None:
    if job.rate is not None:
        time.sleep(len(block) / job.rate)


def _ftplib_lists(ftp: ftplib.FTP, job: Job, text: list[str]) -> None:
    ftp.retrlines("LIST", text.append)


_FTPLIB: dict[Task, Callable[[ftplib.FTP, Job, list[str]], None]] = {
    "get": _ftplib_gets, "put": _ftplib_puts, "list": _ftplib_lists,
}  # fmt: skip


def _with_aioftp(job: Job) -> Report:
    text: list[str] = []
    try:
        with clients.untidy():
            asyncio.run(_do_with_aioftp(job, text))
    except aioftp.StatusCodeError as error:
        return Report(_named(error, str(error.received_codes[0])), str(error))
    except (aioftp.AIOFTPException, OSError) as error:
        return Report(_named(error), str(error))
    return Report(DONE, "\n".join(text))


async def _do_with_aioftp(job: Job, text: list[str]) -> None:
    client = aioftp.Client(
        socket_timeout=job.wait, connection_timeout=job.wait, read_speed_limit=job.rate, write_speed_limit=job.rate,
        ssl=job.context if job.tls == "implicit" else None,
        passive_commands=("pasv",) if job.classic else ("epsv", "pasv"),
    )  # fmt: skip
    try:
        await client.connect(job.host, job.port)
        if job.tls == "must":
            await client.upgrade_to_tls(job.context)
        await client.login(job.user, job.password)
        await _AIOFTP[job.task](client, job, text)
        await client.quit()
    finally:
        client.close()


async def _aioftp_gets(client: aioftp.Client, job: Job, text: list[str]) -> None:
    with job.file.open("ab" if job.resume else "wb") as file:
        async with client.download_stream(job.name, offset=job.offset) as stream:
            async for block in stream.iter_by_block(BLOCK):
                file.write(block)


async def _aioftp_puts(client: aioftp.Client, job: Job, text: list[str]) -> None:
    offset = int((await client.stat(job.name))["size"]) if job.resume else 0
    content = job.file.read_bytes()
    async with client.upload_stream(job.name, offset=offset) as stream:
        for start in range(offset, len(content), BLOCK):
            await stream.write(content[start : start + BLOCK])


async def _aioftp_lists(client: aioftp.Client, job: Job, text: list[str]) -> None:
    text += [str(path) for path, _ in await client.list("/")]


_AIOFTP: dict[Task, Callable[[aioftp.Client, Job, list[str]], Coroutine[Any, Any, None]]] = {
    "get": _aioftp_gets, "put": _aioftp_puts, "list": _aioftp_lists,
}  # fmt: skip


def _named(error: Exception, code: str = "") -> str:
    """The exception, without the Error that most of them end with, and the reply code that it carries, if any."""
    return " ".join([type(error).__name__.removesuffix("Error"), *([code] if code.isdecimal() else [])])


# ---- programs ---------------------------------------------------------------------------------------


def url(job: Job, path: str = "") -> str:
    return f"{'ftps' if job.tls == 'implicit' else 'ftp'}://{job.host}:{job.port}/{path}"


def curl(job: Job) -> list[str]:
    """`--retry` is for what curl takes for passing; a 421 is among that."""
    tls = {"may": ["--ssl"], "must": ["--ssl-reqd"]}.get(job.tls, [])
    tasks = {
        "get": ["--output", job.name, url(job, job.name)],
        "put": ["--upload-file", job.name, url(job, job.name)],
        "list": [url(job)],
    }
    return [
        "curl", "-q", "--silent", "--show-error", "--verbose", "--noproxy", "*", "--cacert", job.ca_file, *tls,
        "--user", f"{job.user}:{job.password}",
        "--connect-timeout", str(job.wait), "--speed-time", str(job.wait), "--speed-limit", "1",
        "--max-time", str(3 * job.wait),  # the reply to an upload is waited for without end
        *(["--retry", str(job.tries - 1), "--retry-delay", "1"] if job.tries > 1 else []),
        *(["--ftp-port", "-"] if job.active else []), *(["--disable-epsv", "--disable-eprt"] if job.classic else []),
        *(["--continue-at", "-"] if job.resume else []),
        *(["--limit-rate", str(job.rate)] if job.rate else []), *job.options, *tasks[job.task],
    ]  # fmt: skip


def lftp(job: Job) -> list[str]:
    """Its exit code is that of the last command, `get`, `put` or `ls`."""
    resume = "-c " if job.resume else ""
    settings = {
        "cmd:move-background": "no",
        "dns:order": "inet",
        "ftp:passive-mode": _on(not job.active),
        "ftp:ssl-allow": _on(job.tls != "none"),
        "ftp:ssl-allow-anonymous": "yes",
        "ftp:ssl-force": _on(job.tls == "must"),
        "net:limit-rate": str(job.rate or 0),
        "net:max-retries": str(job.tries),
        "net:reconnect-interval-base": "1",
        "net:reconnect-interval-multiplier": "1",
        "net:timeout": f"{job.wait}s",
        "ssl:ca-file": job.ca_file,
    }
    tasks = {"get": f"get {resume}{job.name}", "put": f"put {resume}{job.name}", "list": "ls"}
    script = [
        "debug 4", *(f"set {name} {value}" for name, value in settings.items()), *job.options,
        f"open -u {job.user},{job.password} {url(job).rstrip('/')}", tasks[job.task],
    ]  # fmt: skip
    return ["lftp", "--norc", "-c", "; ".join(script)]


def _on(yes: bool) -> str:
    return "on" if yes else "off"


def wget(job: Job) -> list[str]:
    """wget has no way of putting a file. It knows `ftps:` only: with AUTH TLS unless told otherwise."""
    tls = {"may": ["--ftps-fallback-to-ftp"], "implicit": ["--ftps-implicit"]}.get(job.tls, [])
    scheme = "ftp" if job.tls == "none" else "ftps"
    tasks = {"get": [*(["--continue"] if job.resume else [])], "list": ["--output-document=-"]}
    return [
        "wget", "--no-config", "--no-proxy", "--server-response", "--progress=dot", f"--tries={job.tries}",
        "--waitretry=1", f"--timeout={job.wait}", f"--ca-certificate={job.ca_file}", *tls,
        f"--ftp-user={job.user}", f"--ftp-password={job.password}", *(["--no-passive-ftp"] if job.active else []),
        *([f"--limit-rate={job.rate}"] if job.rate else []), *tasks[job.task], *job.options,
        f"{scheme}://{job.host}:{job.port}/{job.name if job.task == 'get' else ''}",
    ]  # fmt: skip


def _program(command: Callable[[Job], list[str]]) -> Callable[[Job], Report]:
    return lambda job: clients.report(clients.run(*command(job), folder=job.folder), DONE)


CLIENTS = {
    client.name: client
    for client in (
        Client("ftplib", _with_ftplib, cannot=frozenset({"implicit", "may"})),
        Client("aioftp", _with_aioftp, cannot=frozenset({"active", "may"})),
        Client("curl", _program(curl), "curl", "curl"),
        Client("lftp", _program(lftp), "lftp", "lftp"),
        Client("wget", _program(wget), "wget", "wget", cannot=frozenset({"put"})),
    )
}

EVERYBODY = [pytest.param(client, id=client.name) for client in CLIENTS.values()]


def attempt(client: Client[Job], fake: FakeFTP, folder: Path, way: str = "get", **more: Any) -> Report:
    """Have a client do something, and let the fake read what it has left behind.

    `way` is the task, and how it is to be done: `must` and so on for TLS, `active`, `classic`, `resume`; `quick` is
    for a client that waits for a second only. What is got without `resume` is got anew.
    """
    task, *words = way.split()
    tls = next((word for word in words if word in get_args(Encryption)), "none")
    how: dict[str, Any] = {"tls": tls, **{word: True for word in ("active", "classic", "resume") if word in words}}
    if "quick" in words:
        how["wait"] = 1
    job = Job(fake.host, fake.port, fake.ca_file, folder, task, **{"name": NAMES[task], **how, **more})
    if task == "put":
        job.file.write_bytes(UPLOAD)
    elif task == "get" and not job.resume:
        job.file.unlink(missing_ok=True)
    report = client.do(job)
    fake.settle()
    return report


def assert_came_through(fake: FakeFTP, folder: Path, way: str, report: Report) -> None:
    """The client says that it is done, and it is: what was sent is what has arrived, byte for byte."""
    assert report.said == DONE, report.text
    match way.split()[0]:
        case "get":
            assert digest((folder / "big.bin").read_bytes()) == digest(fake.files["big.bin"])
        case "put":
            fake.assert_stored("up.bin", sha256=digest(UPLOAD))
        case "list":
            assert [name for name in fake.files if name not in report.text] == []


def assert_did_not_come_through(fake: FakeFTP, folder: Path, way: str, report: Report) -> None:
    assert report.said != DONE, report.text
    match way.split()[0]:
        case "get":
            got = folder / "big.bin"
            assert not got.exists() or got.stat().st_size < fake.files.size("big.bin")
        case "put":
            assert "up.bin" not in fake.files or "up.bin" in fake.files.partial
        case "list":
            assert "small.txt" not in report.text


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
