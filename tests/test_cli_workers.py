"""`notnow serve --workers`, as a process: what it prints, how it is controlled, and how it ends."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import select
import signal
import smtplib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from cli_process import PATIENCE, Notnow
from notnow import connect
from notnow.cli import group

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")


def send(server: dict[str, Any], number: int = 0) -> None:
    with smtplib.SMTP(server["host"], server["port"], timeout=PATIENCE) as client:
        client.sendmail("a@client.test", ["b@server.test"], f"Message-ID: <{number}@client.test>\r\n\r\nhello\r\n")


def workers_of(notnow: Notnow) -> list[int]:
    """The process ids of its workers: its children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == notnow.process.pid:
                found.append(int(stat.parent.name))
    return found


def ended(pid: int) -> bool:
    """Wait for the end of a process."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], PATIENCE)[0])
    finally:
        os.close(watched)


@contextlib.contextmanager
def load(server: dict[str, Any], threads: int = 6) -> Iterator[None]:
    """Clients that send mail without a pause, until the server is gone."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException):
                send(server)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()


def rejects(*arguments: str) -> str:
    result = CliRunner().invoke(group, ["serve", *arguments], prog_name="notnow")
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


# ---- what it prints ------------------------------------------------------------------------------


def test_it_prints_what_one_process_prints() -> None:
    with Notnow("serve", "smtp/too-many-connections", "--set", "cap=1", "--workers", "2", "--json") as notnow:
        server = notnow.event()
        assert server["event"] == "listening"
        with socket.create_connection((server["host"], server["port"])) as inside:
            assert inside.recv(100).startswith(b"220")
            with ThreadPoolExecutor(4) as pool:
                refused = [pool.submit(send, server) for _ in range(4)]
                assert [one.exception().smtp_code for one in refused] == [421] * 4  # type: ignore[union-attr]
        send(server)
        told = [notnow.until(event="exchange", moment="connect") for _ in range(6)]
        told.sort(key=lambda one: one["index"])  # of clients that come together, the first need not be answered first
        assert [one["connection"] for one in told] == [1, 2, 3, 4, 5, 6]
        assert [one["reply"][:3] for one in told] == ["220", *["421"] * 4, "220"]
        assert notnow.until(event="exchange", moment="message")["facts"]["stored"]
        code, _, errors = notnow.stop()
        assert (code, errors) == (0, "")


def test_what_clients_are_told_at_the_end_is_printed() -> None:
    with Notnow("serve", "smtp/healthy", "--workers", "2", "--json") as notnow:
        server = notnow.event()
        with socket.create_connection((server["host"], server["port"])) as inside:
            assert inside.recv(100).startswith(b"220")
            code, out, errors = notnow.stop()
            assert inside.recv(100).startswith(b"421")
        assert (code, errors, out.count('"fault": "stopped"')) == (0, "", 1)


# ---- control -------------------------------------------------------------------------------------


def test_the_control_api_reaches_and_reads_all_workers() -> None:
    arguments = ["smtp/overload", "--set", "outage=10m", "--workers", "2", "--control", "0", "--speed", "0", "--json"]
    with Notnow("serve", *arguments) as notnow:
        url = notnow.event()["url"]
        server = notnow.event()
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as api:

            def get(path: str) -> Any:
                return api.get(f"/v1/servers/smtp/{path}").raise_for_status().json()

            def post(path: str, **body: Any) -> Any:
                return api.post(path, json=body).raise_for_status().json()

            for _ in range(4):
                with pytest.raises(smtplib.SMTPConnectError):
                    send(server)
            assert get("wait?connect=4")["phase"] == "overloaded"
            assert get("rules")["rules"][0]["fired"] == 4
            refused = get("journal?moment=connect")["entries"]
            assert [one["connection"] for one in refused] == [1, 2, 3, 4]
            assert get(f"exchanges/{refused[0]['index']}/why")["rules"][0]["fired"] is True
            assert post("/v1/clock/advance", by="11m")["now"] == {"smtp": 660.0}
            for n in range(4):
                send(server, n)
            assert [one["message_id"] for one in get("messages")["messages"]] == [
                f"<{n}@client.test>" for n in range(4)
            ]
            with socket.create_connection((server["host"], server["port"])) as inside:
                inside.recv(100)
                assert post("/v1/servers/smtp/kick") == {"kicked": 1}
                assert inside.recv(100).startswith(b"421")
            verdict = api.get("/v1/verdict").json()
            assert {one["rule"]: one["outcome"] for one in verdict["verdicts"]}["smtp.survives-421"] != "broken"
            remote = connect(url)["smtp"]
            remote.assert_delivered(times=1, count=4)
            assert len(remote.messages) == 4
            played = api.put(
                "/v1/servers/smtp/scenario", json={"scenario": "smtp/too-many-connections", "knobs": {"cap": 1}}
            )
            assert played.raise_for_status().json()["phase"] == "busy"
            with socket.create_connection((server["host"], server["port"])) as inside:
                inside.recv(100)
                with pytest.raises(smtplib.SMTPConnectError):
                    send(server)
        assert notnow.stop()[::2] == (0, "")


def ftp_client(server: dict[str, Any]) -> ftplib.FTP:
    client = ftplib.FTP(timeout=PATIENCE)
    client.connect(server["host"], server["port"])
    client.login()
    return client


def test_the_files_of_a_directory_are_one_tree_for_all_clients_and_the_control_api(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"from the directory")
    arguments = [
        "ftp/idle-timeout",
        "--files",
        str(tmp_path),
        "--workers",
        "4",
        "--control",
        "0",
        "--speed",
        "0",
        "--json",
    ]
    with Notnow("serve", *arguments) as notnow, contextlib.ExitStack() as stack:
        url = notnow.event()["url"]
        server = notnow.event()
        api = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False))
        clients = [stack.enter_context(ftp_client(server)) for _ in range(8)]
        for n, client in enumerate(clients):
            client.storbinary(f"STOR {n}.bin", io.BytesIO(bytes([n]) * 300_000))
        names = ["0.bin", "1.bin", "2.bin", "3.bin", "4.bin", "5.bin", "6.bin", "7.bin", "a.txt"]
        assert [client.nlst() for client in clients] == [names] * 8
        found = api.get("/v1/servers/ftp/files").raise_for_status().json()["files"]
        assert [(one["path"], one["size"], one["partial"]) for one in found][7:] == [
            ("7.bin", 300_000, False),
            ("a.txt", 18, False),
        ]
        assert api.get("/v1/servers/ftp/files/3.bin").content == bytes([3]) * 300_000
        connect(url)["ftp"].assert_stored("5.bin", bytes([5]) * 300_000)
        assert api.get("/v1/verdict").raise_for_status().json()["result"] == "delivered"
        api.post("/v1/clock/advance", json={"by": "1h"}).raise_for_status()
        for client in clients:
            with pytest.raises(ftplib.error_temp, match="421"):
                client.getresp()
        with ftp_client(server) as client:
            assert api.post("/v1/servers/ftp/kick").json() == {"kicked": 1}
            with pytest.raises(ftplib.error_temp, match="421"):
                client.getresp()
            api.post("/v1/servers/ftp/reset").raise_for_status()
        with ftp_client(server) as client:
            assert client.nlst() == ["a.txt"]
        assert notnow.stop()[::2] == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


# ---- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_load_ends_all_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with Notnow("serve", "smtp/healthy", "--workers", "3", "--json", TMPDIR=str(tmp_path)) as notnow:
        server = notnow.event()
        pids = workers_of(notnow)
        assert len(pids) == 3
        with load(server):
            notnow.until(event="exchange", moment="message")
            reader = threading.Thread(target=lambda: list(notnow.lines()))
            reader.start()
            notnow.process.send_signal(number)
            reader.join()
            assert (notnow.process.wait(PATIENCE), notnow.errors()) == (0, "")
        assert all(map(ended, pids))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server["host"], server["port"]))
        assert list(tmp_path.iterdir()) == []


def test_a_signal_amid_ftp_transfers_ends_them_with_the_goodbye(tmp_path: Path) -> None:
    with Notnow("serve", "ftp/healthy", "--workers", "3", "--json", TMPDIR=str(tmp_path)) as notnow:
        server = notnow.event()
        pids = workers_of(notnow)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(ftp_client(server)) for _ in range(6)]
            uploads = [stack.enter_context(client.transfercmd(f"STOR {n}")) for n, client in enumerate(clients)]
            for upload in uploads:
                upload.sendall(b"x" * 200_000)
            code, out, errors = notnow.stop()
            assert (code, errors) == (0, "")
            assert out.count('"fault": "stopped"') == len(clients)
            for client in clients:
                with pytest.raises(ftplib.error_temp, match="421"):
                    client.getresp()
        assert all(map(ended, pids))
        assert list(tmp_path.iterdir()) == []


def test_a_signal_to_the_whole_group_is_a_stop_as_well() -> None:
    """As a terminal sends Ctrl-C, and systemd SIGTERM."""
    with Notnow("serve", "smtp/healthy", "--workers", "2", "--json") as notnow:
        notnow.event()
        for pid in workers_of(notnow):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        assert notnow.stop()[::2] == (0, "")


def test_a_worker_that_is_killed_is_reported_and_ends_everything_with_an_error() -> None:
    with Notnow("serve", "smtp/healthy", "--workers", "2", "--json") as notnow:
        notnow.event()
        pids = workers_of(notnow)
        os.kill(pids[0], signal.SIGKILL)
        code, _, errors = notnow.end()
        assert code == 1
        assert errors == (
            f"Error: worker process {pids[0]} was killed by signal 9 (Killed), and its clients are cut off; what it had not "
            "reported yet is missing from the journal, so notnow stops\n"
        )
        assert all(map(ended, pids))


def test_a_worker_that_does_not_stop_is_killed_and_the_missing_report_is_an_error() -> None:
    with Notnow("serve", "smtp/healthy", "--workers", "2", "--json") as notnow:
        notnow.event()
        pids = workers_of(notnow)
        os.kill(pids[0], signal.SIGSTOP)
        code, _, errors = notnow.stop()
        assert (code, errors) == (
            1,
            "Error: the workers have not stopped within 5 s; what they had not reported yet is missing from the journal\n",
        )
        assert all(map(ended, pids))


def test_workers_end_with_the_process_that_has_started_them() -> None:
    with Notnow("serve", "smtp/healthy", "--workers", "2", "--json") as notnow:
        server = notnow.event()
        pids = workers_of(notnow)
        with load(server, 2):
            notnow.until(event="exchange", moment="message")
            notnow.process.kill()
            assert all(map(ended, pids))


# ---- what is refused -----------------------------------------------------------------------------


def test_how_many_workers_there_may_be() -> None:
    for bad in ("0", "65", "-1"):
        assert f"{bad} is not in the range 1<=x<=64" in rejects("smtp/healthy", "--workers", bad)
    assert "'x' is not a valid integer range" in rejects("smtp/healthy", "--workers", "x")
