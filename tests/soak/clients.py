"""Stock clients at work. Each job tells its `Seen` what the client was told, and never raises for what a server does."""

from __future__ import annotations

import asyncio
import ftplib
import shutil
import smtplib
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import aiosmtplib
import httpx
from tests.soak.wire import HOST

PATIENCE = 120.0  # real seconds; only a bug makes a client wait so long
TRIES = 3
CURL = shutil.which("curl")
MailFailed = (smtplib.SMTPException, aiosmtplib.SMTPException, OSError)
Item = tuple[str, int]  # a name, and a number of bytes


@dataclass
class Seen:
    """What the clients were told went through: items by their names and sizes, with the number of times."""

    mail: Counter[Item] = field(default_factory=Counter)
    uploads: Counter[Item] = field(default_factory=Counter)
    downloads: Counter[Item] = field(default_factory=Counter)
    answers: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)  # path, body up, status, body down
    broken_off: Counter[tuple[str, int]] = field(
        default_factory=Counter
    )  # path, body up: the client stopped at a GOAWAY
    errors: dict[str, str] = field(default_factory=dict)  # the last one that an item met, by its name
    lost: int = 0  # tries without an answer, or with an incomplete one
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, into: Counter[Item], name: str, size: int) -> None:
        with self._lock:
            into[name, size] += 1

    def answered(self, path: str, up: int, status: int, down: int) -> None:
        with self._lock:
            self.answers[path, up, status, down] += 1

    def stopped_at_a_goaway(self, path: str, up: int) -> None:
        with self._lock:
            self.broken_off[path, up] += 1

    def failed(self, name: str, error: object) -> None:
        with self._lock:
            self.lost += 1
            self.errors[name] = repr(error)


@dataclass(frozen=True)
class Ports:
    """Where the clients go, and the CA that they trust."""

    smtp: int
    ftp: int
    http: int
    ca_file: str


Job = Callable[[], None]


def message(name: str, size: int) -> bytes:
    """A message whose size on the server is known: lines that end in CRLF, and dots to be doubled."""
    head = f"From: a@client.test\r\nTo: b@server.test\r\nMessage-ID: <{name}@client.test>\r\n\r\n".encode()
    line = b".x" * 30 + b"\r\n"
    return head + line * (1 + size // len(line))


def by_smtplib(ports: Ports, seen: Seen, names: Sequence[str], size: int) -> None:
    """Several messages on one connection; those that fail are tried again on others."""
    left = list(names)
    for _ in range(TRIES):
        try:
            with smtplib.SMTP(HOST, ports.smtp, "client.test", PATIENCE) as client:
                while left:
                    data = message(left[0], size)
                    client.sendmail("a@client.test", ["b@server.test"], data)
                    seen.note(seen.mail, left.pop(0), len(data))
                return
        except MailFailed as error:
            seen.failed(left[0] if left else "", error)


def by_aiosmtplib(ports: Ports, seen: Seen, names: Sequence[str], size: int) -> None:
    """The messages side by side, a connection each."""

    async def send(name: str) -> None:
        data = message(name, size)
        for _ in range(TRIES):
            try:
                async with aiosmtplib.SMTP(
                    hostname=HOST, port=ports.smtp, local_hostname="client.test", timeout=PATIENCE
                ) as client:
                    await client.sendmail("a@client.test", ["b@server.test"], data)
                    seen.note(seen.mail, name, len(data))
                return
            except MailFailed as error:
                seen.failed(name, error)

    async def all_of_them() -> None:
        await asyncio.gather(*map(send, names))

    asyncio.run(all_of_them())


def by_ftplib(ports: Ports, seen: Seen, names: Sequence[str], size: int) -> None:
    """A session that uploads each of these files, and downloads one."""
    path = ""
    for _ in range(TRIES):
        client = ftplib.FTP(timeout=PATIENCE)
        try:
            client.connect(HOST, ports.ftp)
            client.login()
            for path in (f"/{name}" for name in names):
                client.storbinary(f"STOR {path[1:]}", BytesIO(b"y" * size))
                seen.note(seen.uploads, path, size)
            path, into = "/small.txt", BytesIO()
            client.retrbinary("RETR small.txt", into.write)
            seen.note(seen.downloads, path, len(into.getvalue()))
            client.quit()
            return
        except (*ftplib.all_errors, ValueError) as error:
            seen.failed(path, error)
        finally:
            client.close()


def by_httpx(ports: Ports, seen: Seen, names: Sequence[str], size: int, http2: bool) -> None:
    """A request for each name on a pool of connections, some of them with a body."""
    trusted = ssl.create_default_context(cafile=ports.ca_file)
    with httpx.Client(http2=http2, http1=not http2, verify=trusted, timeout=PATIENCE, trust_env=False) as client:
        for i, name in enumerate(names):
            body = b"z" * size if i % 2 else b""
            for attempt in range(TRIES):
                path = f"/{name}/{attempt}"
                try:
                    answer = client.request(
                        "PUT" if body else "GET", f"https://{HOST}:{ports.http}{path}", content=body
                    )
                except (httpx.HTTPError, OSError) as error:
                    if "CERTIFICATE_VERIFY_FAILED" in str(error):
                        raise  # no scenario here has a bad certificate
                    seen.failed(path, error)
                    if str(error).startswith("<ConnectionTerminated"):  # the event of h2 for a GOAWAY
                        seen.stopped_at_a_goaway(path, len(body))
                    continue
                seen.answered(path, len(body), answer.status_code, len(answer.content))
                if answer.is_success:
                    break


def by_curl(ports: Ports, seen: Seen, names: Sequence[str], size: int) -> None:
    """A mail, a download and a request for each name, each by a process of its own. Nothing where there is no curl."""
    if CURL is None:
        return
    common = [CURL, "-sS", "--max-time", str(PATIENCE)]
    for name in names:
        data = message(name, size)
        mail = [
            f"smtp://{HOST}:{ports.smtp}/client.test",
            "--mail-from",
            "a@client.test",
            "--mail-rcpt",
            "b@server.test",
        ]
        done = subprocess.run([*common, *mail, "-T", "-"], input=data, capture_output=True)
        if done.returncode:
            seen.failed(name, done.stderr)
        else:
            seen.note(seen.mail, name, len(data))
        done = subprocess.run([*common, f"ftp://{HOST}:{ports.ftp}/small.txt"], capture_output=True)
        if done.returncode:
            seen.failed("/small.txt", done.stderr)
        else:
            seen.note(seen.downloads, "/small.txt", len(done.stdout))
        figures = ["-w", "%{http_code} %{size_download}", "-o", "-", "--cacert", ports.ca_file]
        url = f"https://{HOST}:{ports.http}/curl/{name}"
        done = subprocess.run([*common, *figures, "-o", "/dev/null", url], capture_output=True)
        if done.returncode:
            seen.failed(f"/curl/{name}", done.stderr)
        else:
            status, down = done.stdout.split()[-2:]
            seen.answered(f"/curl/{name}", 0, int(status), int(down))
