"""Stock FTP clients whose transfers are cut: what is left of a file, who resumes it, and who loses it for good."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import aioftp
import clients
import programs
import pytest
from clients import PATIENCE
from ftp_clients import (
    CLIENTS,
    DONE,
    EVERYBODY,
    UPLOAD,
    Job,
    Task,
    assert_came_through,
    assert_did_not_come_through,
    attempt,
    digest,
    lftp,
    wget,
)
from tables import Row, pairs, read

from notnow import FakeFTP, ManualClock
from notnow.language.loading import loads

if TYPE_CHECKING:
    from clients import Client
    from coverage_table import Proves

    from notnow import Exchange

HERE = Path(__file__).parent
LONG = {"big.bin": "400MB"}  # at the speed of `SLOW`, half a minute: on a busy machine, the time is advanced late
_RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close is an RST then
SLOW = {"get": 12_000_000, "put": 300_000}  # bytes a second; a client that is cut first reads what its buffers hold


def transfers(fake: FakeFTP) -> list[Exchange]:
    return [x for x in fake.journal if x.transfer and x.transfer.direction in ("upload", "download")]


def offsets(fake: FakeFTP) -> list[int]:
    """Where each transfer has begun."""
    return [x.facts.offset for x in transfers(fake)]


# ---- cut by the clock -------------------------------------------------------------------------------

# lftp has a trouble of its own with a cut upload, see below.
CUT = """
scenario and knobs              |way|at|ftplib        |aioftp        |curl|lftp|wget
data-timeout                    |get|  |error_temp 421|StatusCode 421|18  |1   |4
data-timeout like=pure-ftpd     |put|  |error_temp 421|              |    |-   |
data-timeout data=drain         |put|  |error_temp 421|              |    |-   |
session-timeout                 |get|  |error_temp 421|StatusCode 421|18  |1   |4
session-timeout                 |put|  |error_temp 421|              |    |-   |
shutdown n=9                    |get|  |error_temp 421|StatusCode 421|18  |1   |4
kicked n=9                      |get|  |error_temp 421|StatusCode 421|18  |1   |4
maintenance                     |get|  |error_temp 421|StatusCode 421|18  |1   |4
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("ftp", CUT), CLIENTS.values()))
def test_is_cut_by_the_clock(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """In the middle of a transfer the time comes for a 421; the client makes it anew later."""
    with FakeFTP(row.scenario, clock=ManualClock(), files=LONG, **row.knobs) as fake:
        with clients.meanwhile(lambda: attempt(client, fake, tmp_path, row.way, rate=SLOW[row.way])) as running:
            fake.wait_for(lambda _: any(x.facts.bytes or x.reply for x in transfers(fake)), PATIENCE)
            fake.clock.advance("31s")
        report = running.result()
        assert_did_not_come_through(fake, tmp_path, row.way, report)
        assert report.said == row.says.get(client.name, report.said), report.text
        assert [x.code for x in fake.journal if x.refused and x.fault] == [421]

        fake.clock.advance("30s")
        fake.files["big.bin"] = "3MB"
        assert_came_through(fake, tmp_path, row.way, attempt(client, fake, tmp_path, row.way))
        fake.assert_expected()
        fake.assert_retried(times=1)
        proves(row.scenario, client.name)


# ---- downloads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id != "lftp"])
def test_a_cut_download_leaves_a_piece(client: Client[Job], tmp_path: Path) -> None:
    """The end of the data looks like the end of the file: all that has come is left, under the file's own name."""
    with FakeFTP("ftp/killed-mid-download", bytes=1_000_000) as fake:
        assert attempt(client, fake, tmp_path).said != DONE
        assert (tmp_path / "big.bin").read_bytes() == fake.files["big.bin"][:1_000_000]


@pytest.mark.parametrize("like", ["filezilla", "vsftpd", "silent"])
@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id in ("lftp", "wget")])
def test_resumes_a_cut_download_by_itself(like: str, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP("ftp/killed-mid-download", like=like) as fake:
        report = attempt(client, fake, tmp_path, tries=5)
        assert_came_through(fake, tmp_path, "get", report)
        fake.assert_expected()
        assert offsets(fake)[0] == 0
        assert len(offsets(fake)) > 1
        proves("ftp/killed-mid-download", client.name)


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id in ("lftp", "wget")])
def test_resumes_where_it_was_cut(client: Client[Job], tmp_path: Path) -> None:
    """What has been read is not asked for again: REST is said with the very byte (RFC 3659 §5)."""
    with FakeFTP(HERE / "scenarios" / "cut-late.toml", bytes=1_000_000) as fake:
        assert_came_through(fake, tmp_path, "get", attempt(client, fake, tmp_path, tries=5))
        assert offsets(fake) == [0, 1_000_000]


def test_lftp_and_wget_resume_a_transfer_that_stalls(tmp_path: Path, proves: Proves) -> None:
    for name in ("lftp", "wget"):
        programs.need(name, name)
        with FakeFTP("ftp/stalled-transfer") as fake:
            report = attempt(CLIENTS[name], fake, tmp_path, "get quick", tries=5)
            assert_came_through(fake, tmp_path, "get", report)
            fake.assert_expected()
            proves("ftp/stalled-transfer", name)


def test_curl_does_not_retry_a_cut_download(tmp_path: Path) -> None:
    """`--retry` is for 28, which is curl's word for 421, but not for 18, a file that is not all there."""
    programs.need("curl", "curl")
    with FakeFTP("ftp/killed-mid-download") as fake:
        report = attempt(CLIENTS["curl"], fake, tmp_path, tries=3)
        assert report.said == "exit 18"
        assert "transfer closed with 2000000 bytes remaining to read" in report.text
        assert fake.journal.count("connect") == 1


def test_wget_goes_on_with_a_connection_that_is_over(tmp_path: Path) -> None:
    """It has read the end of the data and asks for the file's size; the 421 that it finds it takes for the answer."""
    programs.need("wget", "wget")
    with FakeFTP("ftp/killed-mid-download") as fake:
        assert_came_through(fake, tmp_path, "get", attempt(CLIENTS["wget"], fake, tmp_path, tries=3))
        assert fake.journal.connections[0].after == "SIZE big.bin\r\n"


def test_a_reset_of_the_data_hides_the_421_from_ftplib() -> None:
    """It reads no more replies then. In a `with` block the QUIT at its end finds the 421, and raises that instead."""
    with FakeFTP("ftp/killed-mid-download", data="reset", times=2) as fake:
        ftp = ftplib.FTP(timeout=PATIENCE)
        ftp.connect(fake.host, fake.port)
        ftp.login()
        with pytest.raises(ConnectionResetError):
            ftp.retrbinary("RETR big.bin", lambda _: None)
        with pytest.raises(ftplib.error_temp, match="^421 Kicked"):
            ftp.voidresp()
        ftp.close()

        with pytest.raises(ftplib.error_temp, match="^421 Kicked") as raised, ftplib.FTP(timeout=PATIENCE) as ftp:
            ftp.connect(fake.host, fake.port)
            ftp.login()
            ftp.retrbinary("RETR big.bin", lambda _: None)
        assert isinstance(raised.value.__context__, ConnectionResetError)


def test_the_quit_of_aioftp_hides_the_421() -> None:
    """At the end of its own context it says QUIT to a connection that is over, and raises what comes of that."""

    async def get() -> None:
        async with aioftp.Client.context(fake.host, fake.port, socket_timeout=PATIENCE) as client:
            async with client.download_stream("big.bin") as stream:
                async for _ in stream.iter_by_block():
                    pass

    with FakeFTP("ftp/killed-mid-download") as fake, clients.untidy():
        with pytest.raises(ConnectionResetError) as raised:
            asyncio.run(get())
        hidden = raised.value.__context__
        assert isinstance(hidden, aioftp.StatusCodeError)
        assert hidden.received_codes == ("421",)
        del raised, hidden


# ---- uploads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id not in ("wget", "lftp")])
def test_a_cut_upload_leaves_a_piece(client: Client[Job], tmp_path: Path) -> None:
    with FakeFTP("ftp/killed-mid-upload") as fake:
        assert attempt(client, fake, tmp_path, "put").said != DONE
        assert fake.files["up.bin"] == UPLOAD[:1_000_000]
        with pytest.raises(
            AssertionError, match=r"every file to be whole, but only 1000000 bytes of up\.bin have come"
        ):
            fake.assert_no_partial_files()
        with pytest.raises(AssertionError, match="only a piece of it has come, 1000000 bytes"):
            fake.assert_stored("up.bin", UPLOAD)


def test_lftp_resumes_an_upload_that_fits_its_buffer(tmp_path: Path, proves: Proves) -> None:
    programs.need("lftp", "lftp")
    with FakeFTP("ftp/killed-mid-upload") as fake:
        options = ("set xfer:buffer-size 8M",)
        report = attempt(CLIENTS["lftp"], fake, tmp_path, "put", tries=5, options=options)
        assert_came_through(fake, tmp_path, "put", report)
        fake.assert_expected()
        assert offsets(fake) == [0, 1_000_000]
        proves("ftp/killed-mid-upload", "lftp")


@pytest.mark.parametrize("data", ["fin", "reset", "drain"])
def test_lftp_loses_an_upload_that_it_resumes(data: str, tmp_path: Path) -> None:
    """Of what is left lftp 4.9.2 sends as much as its buffer holds, three times 64 KB, and ends the transfer.

    It has read its file to the end before the 421 came. The server says 226, with good reason. Where it had not, what
    it sends may have the right size and the wrong content, and lftp ends with 0; here it hangs, for ever.
    """
    programs.need("lftp", "lftp")
    (tmp_path / "up.bin").write_bytes(UPLOAD[:1_000_000])
    with FakeFTP(HERE / "scenarios" / "cut-late.toml", bytes=100_000, data=data) as fake:
        job = Job(fake.host, fake.port, fake.ca_file, tmp_path, "put", "up.bin", tries=5)
        with clients.started(*lftp(job), folder=tmp_path):
            # 125 or 150: which comes first is a race, STOR or the data connection.
            fake.wait_for(lambda _: _ends(fake) in ([125, 226], [150, 226]), PATIENCE)
        fake.settle()
        assert offsets(fake) == [0, 100_000]
        fake.assert_no_partial_files()
        with pytest.raises(AssertionError, match="bytes in place of 1000000, and is another from byte") as raised:
            fake.assert_stored("up.bin", UPLOAD[:1_000_000])
        assert "->" in str(raised.value), "the offender is marked"


def _ends(fake: FakeFTP) -> list[int]:
    """The last that was said to each transfer."""
    return [x.codes[-1] for x in transfers(fake) if x.codes]


@pytest.mark.parametrize("like", ["rfc", "aborted", "silent"])
@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id not in ("wget", "lftp")])
def test_puts_again_what_was_kept(like: str, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """STOR does no harm when it is said again: the copy replaces the file, and the client was told 421."""
    with FakeFTP("ftp/kept-then-421", like=like) as fake:
        assert attempt(client, fake, tmp_path, "put").said != DONE
        fake.assert_stored("up.bin", UPLOAD)
        assert_came_through(fake, tmp_path, "put", attempt(client, fake, tmp_path, "put"))
        fake.assert_expected()
        assert len(transfers(fake)) == 2
        assert fake.files["up.bin"] == UPLOAD
        fake.assert_no_duplicates()
        proves("ftp/kept-then-421", client.name)


@pytest.mark.parametrize("like", ["rfc", "silent"])
def test_lftp_asks_before_it_puts_again(like: str, tmp_path: Path, proves: Proves) -> None:
    """It comes back, asks for the SIZE of what is there, and finds that there is nothing left to do."""
    programs.need("lftp", "lftp")
    with FakeFTP("ftp/kept-then-421", like=like) as fake:
        assert_came_through(fake, tmp_path, "put", attempt(CLIENTS["lftp"], fake, tmp_path, "put", tries=5))
        assert fake.journal.count("connect") == 2
        fake.assert_expected()
        fake.assert_no_duplicates()
        proves("ftp/kept-then-421", "lftp")


def test_curl_doubles_what_it_appends_again(tmp_path: Path) -> None:
    programs.need("curl", "curl")
    with FakeFTP("ftp/kept-then-421") as fake:
        for said in ("exit 28", DONE):
            assert attempt(CLIENTS["curl"], fake, tmp_path, "put", options=("--append",)).said == said
        assert [x.moment for x in transfers(fake)] == ["appe", "appe"]
        assert fake.files["up.bin"] == UPLOAD + UPLOAD
        with pytest.raises(AssertionError, match="6000000 bytes in place of 3000000"):
            fake.assert_stored("up.bin", UPLOAD)


# ---- a 421 right behind the 226 ---------------------------------------------------------------------


def test_lftp_hangs_up_on_what_is_still_to_be_read(tmp_path: Path) -> None:
    """A 421 behind the 226: lftp drops the data that it has not read yet, comes back and resumes, over and over."""
    programs.need("lftp", "lftp")
    with FakeFTP("ftp/accepted-then-421") as fake:
        with clients.meanwhile(lambda: attempt(CLIENTS["lftp"], fake, tmp_path, tries=50)) as running:
            fake.wait_for(lambda _: len(transfers(fake)) > 1 or running.done(), PATIENCE)
            fake.play("ftp/healthy")
        assert_came_through(fake, tmp_path, "get", running.result())
        assert offsets(fake) == sorted(offsets(fake))
        assert all(x.facts.whole for x in transfers(fake))


# ---- data connections -------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id != "aioftp"])
def test_nobody_goes_over_to_passive_mode(client: Client[Job], tmp_path: Path) -> None:
    """Those who try again do so in active mode, as often as they may."""
    with FakeFTP("ftp/active-blocked") as fake:
        assert_did_not_come_through(fake, tmp_path, "get", attempt(client, fake, tmp_path, "get active", tries=3))
        assert fake.journal.count("retr") == (1 if client.name == "ftplib" else 3)
        assert fake.journal.count("pasv") + fake.journal.count("epsv") == 0


@pytest.mark.parametrize("client", EVERYBODY)
def test_nobody_goes_over_to_active_mode(client: Client[Job], tmp_path: Path) -> None:
    with FakeFTP("ftp/passive-blocked", how="refused") as fake:
        assert_did_not_come_through(fake, tmp_path, "get", attempt(client, fake, tmp_path, tries=2))
        assert fake.journal.count("pasv") + fake.journal.count("epsv") > 0
        assert fake.journal.count("port") + fake.journal.count("eprt") == 0


def test_aioftp_gets_through_when_the_firewall_is_gone(tmp_path: Path, proves: Proves) -> None:
    """It has no active mode to go over to."""
    with FakeFTP("ftp/passive-blocked") as fake:
        assert attempt(CLIENTS["aioftp"], fake, tmp_path, "get quick").said == "Timeout"
        with fake.playing("ftp/healthy"):
            assert_came_through(fake, tmp_path, "get", attempt(CLIENTS["aioftp"], fake, tmp_path))
        proves("ftp/passive-blocked", "aioftp")


def test_wget_believes_in_the_address(tmp_path: Path, proves: Proves) -> None:
    """The others connect to where the server is, or say EPSV; wget goes where it is told, and gets nowhere."""
    programs.need("wget", "wget")
    with FakeFTP("ftp/wrong-passive-reply") as fake:
        report = attempt(CLIENTS["wget"], fake, tmp_path, "get quick")
        assert report.said == "exit 4", report.text
        assert "10.0.0.1" in report.text
        assert_came_through(fake, tmp_path, "get", attempt(CLIENTS["wget"], fake, tmp_path, "get active"))
        fake.assert_expected()
        proves("ftp/wrong-passive-reply", "wget")


def test_ftplib_lets_its_passive_port_wait(proves: Proves) -> None:
    """A 421 that does not close: the next command gets it for its answer, and then the session goes on."""
    with FakeFTP("ftp/passive-timeout", clock=ManualClock()) as fake:
        with contextlib.closing(ftplib.FTP(timeout=PATIENCE)) as ftp:
            ftp.connect(fake.host, fake.port)
            ftp.login()
            host, port = ftp.makepasv()
            fake.clock.advance("31s")
            with pytest.raises(ftplib.error_temp, match="^421 Passive data channel timed out"):
                ftp.voidcmd("NOOP")
            assert ftp.getresp().startswith("200"), "which is the answer to the NOOP"
            assert ftp.nlst() == list(fake.files)
        fake.assert_expected()
        assert fake.journal.count("connect") == 1
        proves("ftp/passive-timeout", "ftplib")


# ---- wget and an idle session -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["idle-timeout", "no-transfer-timeout", "session-timeout"])
def test_wget_gives_up_a_file_for_the_421_before_it(name: str, tmp_path: Path, proves: Proves) -> None:
    """Between two files nobody takes what wget writes, so that it is silent for as long.

    It says PASV to who has hung up, "cannot initiate PASV transfer", and does not come back for that file.
    """
    programs.need("wget", "wget")
    files = {"a.bin": "200KB", "b.bin": "200KB"}  # each is more than the pipe holds, and less than a socket does
    with FakeFTP(f"ftp/{name}", files=files, clock=ManualClock()) as fake:
        *command, url = wget(Job(fake.host, fake.port, fake.ca_file, tmp_path, "list", tries=3))
        with clients.started(*command, f"{url}*.bin", folder=tmp_path) as process:
            fake.wait_for(lambda j: any(x.facts.whole for x in transfers(fake)), PATIENCE)
            fake.settle()
            fake.clock.advance("31s")
            out, text = process.communicate(timeout=PATIENCE)
            fake.settle()
        assert process.returncode == 8
        assert out == fake.files["a.bin"]
        assert b"Cannot initiate PASV transfer" in text
        assert fake.journal.connections[0].after.startswith("PASV")
        assert attempt(CLIENTS["wget"], fake, tmp_path, name="b.bin").said == DONE
        assert digest((tmp_path / "b.bin").read_bytes()) == digest(fake.files["b.bin"])
        fake.assert_expected()
        proves(f"ftp/{name}", "wget")


# ---- the end of an upload in TLS --------------------------------------------------------------------


def test_a_reset_in_tls_is_no_end_of_file() -> None:
    """Python's ssl tells both by the same error; the fake has to know them apart."""
    with FakeFTP(tls="starttls") as fake:
        job = Job(fake.host, fake.port, fake.ca_file, HERE)
        with contextlib.closing(ftplib.FTP_TLS(timeout=PATIENCE, context=job.context)) as ftp:
            ftp.connect(fake.host, fake.port)
            ftp.login()
            ftp.prot_p()
            for reset in (True, False):
                data = ftp.transfercmd("STOR up.bin")
                data.sendall(UPLOAD[:1000])
                if reset:
                    data.setsockopt(*_RESET)
                data.close()
                if reset:
                    with pytest.raises(ftplib.error_temp, match="^426"):
                        ftp.voidresp()
                    assert fake.files.partial == ("up.bin",)
                else:
                    assert ftp.voidresp().startswith("226")
                    assert fake.files.partial == ()


@pytest.mark.parametrize("name", ["curl", "lftp"])
@pytest.mark.parametrize(("task", "moment"), [("get", "retr"), ("put", "stor"), ("list", "list")])
def test_takes_up_the_session_of_its_control_connection(name: str, task: Task, moment: str, tmp_path: Path) -> None:
    """Many servers require that, and these clients do it unless told otherwise."""
    scenario = loads(
        'protocol = "ftp"\n[[phase]]\n[[phase.rule]]\non = "transfer"\n'
        'where = { resumed = false }\nreply = "522 SSL connection failed: session reuse required"'
    )
    with FakeFTP(scenario, tls="starttls") as fake:
        report = attempt(CLIENTS[name], fake, tmp_path, f"{task} must")
        assert_came_through(fake, tmp_path, f"{task} must", report)
        assert [x.facts.resumed for x in fake.journal if x.moment == moment and x.facts] == [True]
