"""Stock FTP clients where one file on one connection does not tell enough: caps, rates, logins, idle sessions."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aioftp
import clients
import programs
import pytest
from clients import PATIENCE, Report
from ftp_clients import (
    CLIENTS,
    DONE,
    EVERYBODY,
    Job,
    assert_came_through,
    assert_did_not_come_through,
    attempt,
    curl,
    lftp,
    url,
)  # fmt: skip
from tables import Row, pairs, read

from notnow import FakeFTP, ManualClock
from notnow.conduct.reading import attempts

if TYPE_CHECKING:
    from clients import Client
    from coverage_table import Proves

    from notnow import Journal


@contextlib.contextmanager
def guest(fake: FakeFTP, user: str = "anonymous") -> Iterator[ftplib.FTP]:
    """Somebody else's session, logged in for as long as the block lasts. It ends without a QUIT."""
    with contextlib.closing(ftplib.FTP(timeout=PATIENCE)) as other:
        other.connect(fake.host, fake.port)
        other.login(user, "guest@guest.test")
        yield other


def asked(journal: Journal, verb: str) -> int:
    """How often a command has come."""
    return sum(x.request.upper().startswith(verb) for x in journal)


# ---- caps and rates ---------------------------------------------------------------------------------

# ProFTPD says 530, which is for good by its code. curl has 8 for it in place of a greeting, and 67, "Login denied",
# after the password.
CAPS = """
scenario and knobs                        |way |at           |ftplib        |aioftp         |curl|lftp|wget
too-many-users cap=1                      |get |connect 421  |error_temp 421|StatusCode 421 |28  |1   |4
too-many-users cap=1 like=pyftpdlib       |put |connect 421  |error_temp 421|StatusCode 421 |28  |1   |
too-many-users cap=1 like=iis             |list|connect 421  |error_temp 421|StatusCode 421 |28  |1   |4
too-many-users cap=1 stage=user           |get |user 421     |error_temp 421|StatusCode 421 |28  |1   |4
too-many-users cap=1 stage=login          |get |pass 421     |error_temp 421|StatusCode 421 |28  |1   |6
too-many-per-client cap=1 like=pure-ftpd  |get |connect 421  |error_temp 421|StatusCode 421 |28  |1   |4
too-many-per-user cap=1                   |get |pass 421     |error_temp 421|StatusCode 421 |28  |1   |6
too-many-per-user cap=1 like=filezilla    |get |pass 421     |error_temp 421|StatusCode 421 |28  |1   |6
proftpd-max-clients cap=1                 |get |pass 530     |error_perm 530|StatusCode 530 |67  |1   |6
proftpd-max-clients cap=1 per=server      |put |pass 530     |error_perm 530|StatusCode 530 |67  |1   |
proftpd-max-connections cap=1             |get |connect 530  |error_perm 530|StatusCode 530 |8   |1   |4
proftpd-max-instances cap=1               |get |connect close|EOF           |ConnectionReset|56  |1   |4
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("ftp", CAPS), CLIENTS.values()))
def test_gets_the_place_that_another_leaves(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP(row.scenario, **row.knobs) as fake:
        with guest(fake):
            report = attempt(client, fake, tmp_path, row.way)
            assert_did_not_come_through(fake, tmp_path, row.way, report)
            assert report.said == row.says.get(client.name, report.said), report.text
            refusals = [x for x in fake.journal if x.refused and x.fault]
            assert [f"{x.moment} {x.code or 'close'}" for x in refusals] == [row.at]
        fake.settle()
        report = attempt(client, fake, tmp_path, row.way)
        assert_came_through(fake, tmp_path, row.way, report)
        fake.assert_expected(count=1)
        fake.assert_never_exceeded(connections=2)
        proves(row.scenario, client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_is_over_the_rate_of_connections(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP("ftp/proftpd-connection-rate", connections=1, window="60s", clock=ManualClock()) as fake:
        with guest(fake):
            pass
        assert attempt(client, fake, tmp_path).said != DONE
        fake.clock.advance("61s")
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path))
        fake.assert_expected(count=1)
        proves("ftp/proftpd-connection-rate", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_gets_the_place_of_one_who_does_nothing(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP("ftp/idle-sessions", cap=1, clock=ManualClock()) as fake, guest(fake):
        assert attempt(client, fake, tmp_path).said != DONE
        fake.clock.advance("31s")
        assert [x.reply for x in fake.journal if x.moment == "idle"] == ["421 Timeout."]
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path))
        fake.assert_expected(count=1)
        proves("ftp/idle-sessions", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_waits_until_another_has_made_its_transfer(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """425, and the session goes on: but all go, and come again."""
    with FakeFTP("ftp/too-many-transfers", cap=1) as fake:
        with guest(fake) as other, other.transfercmd("STOR guest.bin") as upload:
            report = attempt(client, fake, tmp_path)
            assert_did_not_come_through(fake, tmp_path, "get", report)
            assert next(x.reply for x in fake.journal if x.refused and x.fault).startswith("425 ")
            upload.close()
            other.voidresp()
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path))
        fake.assert_expected()
        proves("ftp/too-many-transfers", client.name)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("too-many-users", "vsftpd"), ("too-many-users", "pyftpdlib"), ("too-many-per-client", "pure-ftpd"),
        ("proftpd-max-connections", None), ("proftpd-max-instances", None),
    ],
)  # fmt: skip
def test_lftp_mirrors_through_a_cap_of_two(name: str, like: str | None, tmp_path: Path, proves: Proves) -> None:
    """Sixteen files, five at a time where two are let in: all of them come, and never are more than two let in.

    Its manual has lftp lower the number of its connections if a 421 says "Too many connections" (ftp:too-many-re), as
    pyftpdlib's and Pure-FTPd's do. 4.9.2 does so for no text, and has no heed of net:connection-limit either: the limit
    that it would lower is always 0, "none".
    """
    programs.need("lftp", "lftp")
    files = {f"{n}.bin": "100KB" for n in range(16)}
    with FakeFTP(f"ftp/{name}", cap=2, files=files, **({"like": like} if like else {})) as fake:
        report = _mirror(fake, tmp_path, "set net:connection-limit 2")
        assert report.said == DONE, report.text
        assert {file: (tmp_path / "mirror" / file).read_bytes() for file in files} == dict(fake.files)
        fake.assert_expected(count=len(files))

        refused = [x.connection for x in fake.journal if x.refused and x.fault]
        let_in = [connection for connection in fake.journal.connections if connection not in refused]
        assert attempts.peak(let_in)[0] == 2
        assert len(refused) > 5, "lftp has learnt to heed the limit"
        proves(f"ftp/{name}", "lftp")


def _mirror(fake: FakeFTP, folder: Path, *options: str) -> Report:
    job = Job(fake.host, fake.port, fake.ca_file, folder, "list", tries=50, options=options)
    *command, script = lftp(job)
    done = clients.run(*command, script.removesuffix("ls") + "mirror --parallel=5 / mirror", folder=folder)
    fake.settle()
    return clients.report(done, DONE)


# ---- who tries again by itself ----------------------------------------------------------------------

# curl does with --retry, wget and lftp do unless told otherwise. wget takes a 421 to PASS for a wrong password, and
# curl every 530; of these lftp reads the words (ftp:retry-530).
BY_ITSELF = """
scenario and knobs             |way|at|curl|lftp|wget
overload                       |get|  |done|done|done
busy-greeting                  |get|  |done|done|done
bare-close                     |get|  |56  |done|done
at-stage stage=pass            |get|  |done|done|6
at-stage stage=retr            |get|  |done|done|done
at-stage stage=retr like=bare  |get|  |56  |done|done
storage-full                   |put|  |done|done|
tls-required like=not-logged-in|get|  |67  |1   |-
"""
TRIES = {"curl", "lftp", "wget"}


@pytest.mark.parametrize(
    ("row", "client"), pairs(read("ftp", BY_ITSELF), [c for c in CLIENTS.values() if c.name in TRIES])
)
def test_tries_again_by_itself(row: Row, client: Client[Job], tmp_path: Path) -> None:
    with FakeFTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        with clients.meanwhile(lambda: attempt(client, fake, tmp_path, row.way, tries=3)) as running:
            fake.wait_for(lambda j: any(x.refused and x.fault for x in j), PATIENCE)
            fake.clock.advance("31s")
        report = running.result()
        assert report.said == row.says[client.name], report.text
        if report.said == DONE:
            assert_came_through(fake, tmp_path, row.way, report)
            fake.assert_expected()
            fake.assert_retried(times=1)
        else:
            assert fake.journal.count("connect") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("proftpd-max-connections", {"curl": "exit 8", "lftp": DONE, "wget": DONE}),
        ("proftpd-max-clients", {"curl": "exit 67", "lftp": DONE, "wget": "exit 6"}),
        ("too-many-per-user", {"curl": DONE, "lftp": DONE, "wget": "exit 6"}),
    ],
)
@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id in TRIES])
def test_tries_again_at_a_cap(name: str, says: dict[str, str], client: Client[Job], tmp_path: Path) -> None:
    """A 530 is final for curl, and after the password for wget, 421 or 530; lftp reads the words, and comes back."""
    with FakeFTP(f"ftp/{name}", cap=1) as fake:
        with contextlib.ExitStack() as stack:
            stack.enter_context(guest(fake))
            with clients.meanwhile(lambda: attempt(client, fake, tmp_path, tries=3)) as running:
                fake.wait_for(lambda j: any(x.refused and x.fault for x in j), PATIENCE)
                stack.close()
        report = running.result()
        assert report.said == says[client.name], report.text
        tried = [x for x in fake.journal if x.refused and x.fault]
        assert len(tried) == 1, "no password was to be burnt"


# ---- logins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", ["silent", "rfc"])
@pytest.mark.parametrize("client", EVERYBODY)
def test_has_a_wrong_password(like: str, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """A close follows the 530. Nobody says that password a second time; with the right one all is well."""
    says = {
        "ftplib": "error_perm 530",
        "aioftp": "StatusCode 530",
        "curl": "exit 67",
        "lftp": "exit 1",
        "wget": "exit 6",
    }
    with FakeFTP("ftp/max-login-attempts", attempts=1, like=like) as fake:
        report = attempt(client, fake, tmp_path, user="anna", password="wrong", tries=3)
        assert report.said == says[client.name], report.text
        assert asked(fake.journal, "PASS") == 1
        assert fake.journal.count("error") == 1
        report = attempt(client, fake, tmp_path, user="anna", password="secret")
        assert_came_through(fake, tmp_path, "get", report)
        fake.assert_expected()
        proves("ftp/max-login-attempts", client.name)


def test_wget_takes_a_421_to_its_password_for_a_wrong_password(tmp_path: Path) -> None:
    """It gives up for good, where it would have come back for any other 421."""
    programs.need("wget", "wget")
    with FakeFTP("ftp/at-stage", stage="pass", clock=ManualClock()) as fake:
        report = attempt(CLIENTS["wget"], fake, tmp_path, tries=3)
        assert report.said == "exit 6"
        assert "Login incorrect." in report.text
        assert fake.journal.count("connect") == 1


@pytest.mark.parametrize("like", ["proftpd", "filezilla"])
def test_ftplib_takes_too_long_to_log_in(like: str, proves: Proves) -> None:
    with FakeFTP("ftp/login-timeout", like=like, clock=ManualClock()) as fake:
        with ftplib.FTP(timeout=PATIENCE) as ftp:
            ftp.connect(fake.host, fake.port)
            fake.clock.advance("29s")
            assert ftp.sendcmd("NOOP").startswith("200"), "which is no login"
            fake.clock.advance("1s")
            with pytest.raises(ftplib.error_temp, match="^421 Login time"):
                ftp.login()
        with guest(fake) as ftp:
            fake.clock.advance("1h")
            assert ftp.nlst() == list(fake.files)
        fake.assert_expected()
        proves("ftp/login-timeout", "ftplib")


def test_aioftp_takes_too_long_to_log_in(proves: Proves) -> None:
    async def dawdle() -> None:
        client = aioftp.Client(socket_timeout=PATIENCE)
        await client.connect(fake.host, fake.port)
        await asyncio.to_thread(fake.clock.advance, "31s")
        with pytest.raises(aioftp.StatusCodeError, match="Login timeout"):
            await client.login()
        client.close()
        async with aioftp.Client.context(fake.host, fake.port) as client:
            assert [str(path) for path, _ in await client.list()] == list(fake.files)

    with FakeFTP("ftp/login-timeout", clock=ManualClock()) as fake:
        with clients.untidy():
            asyncio.run(dawdle())
        fake.assert_expected()
        proves("ftp/login-timeout", "aioftp")


# ---- idle sessions ----------------------------------------------------------------------------------


TIMEOUTS = [
    ("idle-timeout", "vsftpd"), ("idle-timeout", "iis"), ("idle-timeout", "pyftpdlib"),
    ("no-transfer-timeout", "proftpd"), ("session-timeout", None),
]  # fmt: skip
FIRST, SECOND = "small.txt", "up.bin"  # what is got before the silence, and what is put after it


def idle(name: str, like: str | None) -> FakeFTP:
    return FakeFTP(f"ftp/{name}", clock=ManualClock(), **({"like": like} if like else {}))


def assert_both_came_through(fake: FakeFTP, folder: Path) -> None:
    assert (folder / FIRST).read_bytes() == fake.files[FIRST]
    fake.assert_stored(SECOND, (folder / SECOND).read_bytes())
    fake.assert_expected()
    assert fake.journal.count("connect") == 2
    assert fake.journal.connections[0].ended_by == "fake"


@pytest.mark.parametrize(("name", "like"), TIMEOUTS)
def test_ftplib_finds_its_idle_connection_closed(name: str, like: str | None, tmp_path: Path, proves: Proves) -> None:
    """The 421 came unasked: ftplib takes it for the answer to its next command, of two in a row the first."""
    with idle(name, like) as fake:
        with guest(fake) as ftp:
            (tmp_path / SECOND).write_bytes(b"later")
            with (tmp_path / FIRST).open("wb") as file:
                ftp.retrbinary(f"RETR {FIRST}", file.write)
            fake.clock.advance("31s")
            with pytest.raises(ftplib.error_temp, match="^421"):
                ftp.voidcmd("TYPE I")
            if like == "iis":
                with pytest.raises(ftplib.error_temp, match="^421 Terminating connection"):
                    ftp.voidcmd("TYPE I")
            with pytest.raises((EOFError, OSError)):
                ftp.voidcmd("TYPE I")
        with guest(fake) as ftp, (tmp_path / SECOND).open("rb") as file:
            ftp.storbinary(f"STOR {SECOND}", file)
        assert_both_came_through(fake, tmp_path)
        proves(f"ftp/{name}", "ftplib")


@pytest.mark.parametrize(("name", "like"), TIMEOUTS)
def test_aioftp_finds_its_idle_connection_closed(name: str, like: str | None, tmp_path: Path, proves: Proves) -> None:
    async def pause() -> None:
        client = aioftp.Client(socket_timeout=PATIENCE)
        await client.connect(fake.host, fake.port)
        await client.login()
        await client.download(FIRST, tmp_path)
        await asyncio.to_thread(fake.clock.advance, "31s")
        with pytest.raises(aioftp.StatusCodeError, match="but got 421"):
            await client.upload(tmp_path / SECOND)
        client.close()
        async with aioftp.Client.context(fake.host, fake.port) as client:
            await client.upload(tmp_path / SECOND)

    (tmp_path / SECOND).write_bytes(b"later")
    with idle(name, like) as fake:
        with clients.untidy():
            asyncio.run(pause())
        assert_both_came_through(fake, tmp_path)
        proves(f"ftp/{name}", "aioftp")


def _curl_gets_and_puts(job: Job) -> list[str]:
    """The second file comes out of a pipe: curl opens it, and waits, before it looks at its connection."""
    os.mkfifo(job.folder / "pipe")
    program, *options, _output, _name, _url = curl(job)
    get, put = ["--output", FIRST, url(job, FIRST)], ["--upload-file", "pipe", url(job, SECOND)]
    return [program, *options, *get, "--next", *options[1:], *put]


def _lftp_gets_and_puts(job: Job) -> list[str]:
    """lftp reads the second file's content to its end before it goes on, and looks at its connection meanwhile."""
    os.mkfifo(job.folder / "pipe")
    *command, script = lftp(job)
    return [*command, f"{script.rpartition(';')[0]}; get {FIRST}; !cat pipe > {SECOND}\nput {SECOND}"]


@pytest.mark.parametrize(("name", "like"), TIMEOUTS)
def test_curl_finds_its_idle_connection_closed(name: str, like: str | None, tmp_path: Path, proves: Proves) -> None:
    """curl thinks that a connection with something to read is alive, and takes the 421 for the answer to its EPSV.

    Unless the 421 came so early that it was read together with the 226 of the first file.
    """
    programs.need("curl", "curl")
    with idle(name, like) as fake:
        report = _pause_between(fake, tmp_path, _curl_gets_and_puts)
        (tmp_path / SECOND).write_bytes(b"later")
        if report.said != DONE:
            assert report.said == "exit 28", report.text
            assert fake.journal.connections[0].after.startswith("EPSV")
            job = Job(fake.host, fake.port, fake.ca_file, tmp_path, "put", SECOND)
            assert CLIENTS["curl"].do(job).said == DONE
            fake.settle()
        assert_both_came_through(fake, tmp_path)
        proves(f"ftp/{name}", "curl")


@pytest.mark.parametrize(("name", "like"), TIMEOUTS)
def test_lftp_comes_back_when_it_has_something_to_do(
    name: str, like: str | None, tmp_path: Path, proves: Proves
) -> None:
    """lftp hears the 421 as it comes, and says nothing more to who has hung up."""
    programs.need("lftp", "lftp")
    with idle(name, like) as fake:
        report = _pause_between(fake, tmp_path, _lftp_gets_and_puts)
        assert report.said == DONE, report.text
        assert_both_came_through(fake, tmp_path)
        assert fake.journal.connections[0].after == ""
        proves(f"ftp/{name}", "lftp")


def _pause_between(fake: FakeFTP, folder: Path, command: Callable[[Job], list[str]]) -> Report:
    """Have a program get a file, wait in silence until it is told off, and put another one."""
    job = Job(fake.host, fake.port, fake.ca_file, folder)
    with clients.meanwhile(lambda: clients.report(clients.run(*command(job), folder=folder), DONE)) as running:
        fake.wait_for(lambda j: any(x.moment == "retr" and x.facts.whole for x in j), PATIENCE)
        fake.settle()
        fake.clock.advance("31s")
        with contextlib.suppress(BrokenPipeError), (folder / "pipe").open("wb") as pipe:
            pipe.write(b"later")
    fake.settle()
    return running.result()


# ---- maintenance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", EVERYBODY)
def test_comes_during_the_maintenance(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """Who is there is told 421, newcomers 500: for good by its code, and yet it passes."""
    says = {
        "ftplib": "error_perm 500",
        "aioftp": "StatusCode 500",
        "curl": "exit 8",
        "lftp": "exit 1",
        "wget": "exit 4",
    }
    with FakeFTP("ftp/maintenance", clock=ManualClock()) as fake:
        with guest(fake) as other:
            assert other.welcome.endswith(" FTP server going down for maintenance in 10 seconds")
            fake.clock.advance("11s")
            report = attempt(client, fake, tmp_path)
            assert report.said == says[client.name], report.text
            with pytest.raises(ftplib.error_temp, match="^421 FTP server shutting down"):
                other.voidcmd("NOOP")
        fake.clock.advance("30s")
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path))
        fake.assert_expected()
        proves("ftp/maintenance", client.name)


# ---- TLS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id in ("curl", "lftp", "wget")])
def test_a_refused_auth_is_followed_by_a_login_in_clear_text(
    client: Client[Job], tmp_path: Path, proves: Proves
) -> None:
    """With TLS "if it is offered", that is, and after a 431. After a 421 there is no connection left to do so on."""
    with FakeFTP("ftp/auth-tls-refused", clock=ManualClock()) as fake:
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path, "get may"))
        assert [c.tls for c in fake.journal.connections] == [None]
        fake.assert_expected()
        proves("ftp/auth-tls-refused", client.name)


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id != "ftplib"])
def test_no_byte_of_a_transfer_in_tls_is_lost(client: Client[Job], tmp_path: Path) -> None:
    """lftp closes with session tickets unread, if there are any, and loses what it has not sent yet: there are none."""
    with FakeFTP(tls="implicit") as fake:
        for _ in range(5):
            way = "get implicit" if "put" in client.cannot else "put implicit"
            assert_came_through(fake, tmp_path, way, attempt(client, fake, tmp_path, way))
        assert not any(x.refused and x.moment != "opts" for x in fake.journal)


# ---- quotas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id != "wget"])
def test_is_over_its_quota(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """552, for good: nobody tries again, and what fits comes through."""
    says = {"ftplib": "error_perm 552", "aioftp": "StatusCode 552", "curl": "exit 70", "lftp": "exit 1"}
    with FakeFTP("ftp/quota-exceeded") as fake:
        report = attempt(client, fake, tmp_path, "put")
        assert report.said == says[client.name], report.text
        assert [len(fake.files[name]) <= 1_000_000 for name in fake.files.partial] == [True]
        assert asked(fake.journal, "STOR") == 1
        del fake.files["up.bin"]
        (tmp_path / "fits.bin").write_bytes(b"x" * 1000)
        job = Job(fake.host, fake.port, fake.ca_file, tmp_path, "put", "fits.bin")
        assert client.do(job).said == DONE
        fake.assert_stored("fits.bin", size=1000)
        fake.assert_expected()
        proves("ftp/quota-exceeded", client.name)
