"""`notnow.connect`: fakes in another process are used and judged as local ones are."""

from __future__ import annotations

import asyncio
import hashlib
import re
import smtplib
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from ftplib import FTP
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

import notnow
from control_api import API, running
from notnow import ControlError, FakeSMTP, ScenarioError, StartError, WaitTimeoutError
from notnow.control.client import Answer, Client
from notnow.control.remote import Remote, RemoteSMTP
from smtp_client import MESSAGE
from test_control_api import ONCE


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running(seed=7) as api:
        yield api


@pytest.fixture
def remote(one_api: API) -> Iterator[Remote]:
    yield notnow.connect(one_api.url)
    one_api.clear()


def send(fake: object) -> None:
    with suppress(smtplib.SMTPException), smtplib.SMTP(fake.host, fake.port, timeout=20) as smtp:  # type: ignore[attr-defined]
        smtp.sendmail("a@client.test", ["b@server.test"], MESSAGE)


def test_a_server_is_judged_as_a_local_one_is(remote: Remote, tmp_path: Path) -> None:
    file = tmp_path / "once.toml"
    file.write_text(ONCE)
    with FakeSMTP(file) as local, remote.start(file) as there:
        assert isinstance(there, RemoteSMTP)
        for fake in (local, there):
            send(fake)
            with pytest.raises(AssertionError) as failed, fake.client():
                raise AssertionError("the client says so")
            assert str(failed.value) == "the client says so"
            assert fake.result.word == "reported"
            send(fake)
            fake.assert_delivered(count=1)
            fake.assert_retried(times=1)
            fake.assert_new_connection_after(421)
            with pytest.raises(AssertionError, match="transcript"):
                fake.assert_delivered(times=2)
            assert [str(message["subject"]) for message in fake.messages] == ["hello"]
            assert fake.messages[0].envelope.content == MESSAGE
            assert [x.reply for x in fake.journal][:1] == ["421 4.3.2 busy"]
            assert [one.fired for one in fake.explain(next(iter(fake.journal)))] == [True]
            assert fake.fired["phase[0].rule[0]"].times == 1
            assert fake.storm.tries == 2


def test_scenarios_phases_and_the_clock(remote: Remote) -> None:
    with remote.start("smtp/overload", outage="1h", like="gmail", speed=0) as there:
        assert (there.phase, there.scenario.knobs["like"]) == ("overloaded", "gmail")
        send(there)
        there.clock.advance("1h")
        assert (there.phase, there.clock.now()) == ("recovered", 3600)
        send(there)
        there.assert_delivered()
        with there.playing("smtp/overload"):
            assert there.scenario.knobs["like"] == "postscreen"
        assert there.scenario.knobs["like"] == "gmail"
        there.play("smtp/healthy")
        there.next_phase()
        there.reset()
        assert len(there.journal) == 0
        assert there.kick() == 0
    assert not there.running


def test_the_journal_is_the_same_object_while_nothing_happens(remote: Remote) -> None:
    with remote.start() as there:
        before = there.journal
        assert there.journal is before
        send(there)
        there.wait_for(lambda journal: journal.count("quit") == 1)
        assert there.journal is not before


def test_waiting(remote: Remote) -> None:
    with remote.start() as there:
        client = threading.Thread(target=send, args=(there,))
        client.start()
        there.wait_for(lambda journal: journal.count("message") == 1, timeout="20s")
        client.join()
        with pytest.raises(WaitTimeoutError, match="waited 0.01 s in vain"):
            there.wait_for(lambda journal: journal.count("message") == 2, timeout=0.01)


def test_waiting_in_an_event_loop(remote: Remote) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await fake\.await_for"):
            there.wait_for(lambda journal: True)
        sending = asyncio.create_task(asyncio.to_thread(send, there))
        await there.await_for(lambda journal: journal.count("message") == 1, timeout=20)
        await sending

    with remote.start() as there:
        asyncio.run(main())


def test_servers_of_a_group_are_judged_together(remote: Remote) -> None:
    with (
        remote.start("smtp/overload", outage="1h", group="mx", name="primary", speed=0) as primary,
        remote.start("smtp/healthy", group="mx", name="backup") as backup,
        remote.start("smtp/healthy", name="stranger") as stranger,
    ):
        send(primary)
        send(backup)
        primary.assert_fell_back_to(backup)
        remote.primary.assert_fell_back_to(remote.backup)
        with pytest.raises(ValueError, match="primary and stranger have clocks of their own"):
            primary.assert_fell_back_to(stranger)
        backup.clock.advance("1m")
        assert primary.clock.now() == 60
        backup.stop()
        primary.clock.advance("1m")
        assert primary.clock.now() == 120


def test_after_the_end_the_journal_can_still_be_judged(remote: Remote) -> None:
    with remote.start("smtp/overload", outage="1h", speed=0) as there:
        send(there)
    there.assert_never_exceeded(connections=1)
    assert there.journal.count("connect") == 1
    assert there.result.word == "unknown"
    for gone in (there.kick, lambda: there.phase, lambda: there.messages, there.stop):  # type: ignore[attr-defined]
        with pytest.raises(ControlError, match="there is no server 'smtp'"):
            gone()


def test_one_message(remote: Remote) -> None:
    with remote.start() as there:
        send(there)
        assert there.message(to="b@server.test")["subject"] == "hello"  # type: ignore[attr-defined]
        with pytest.raises(AssertionError, match="nobody"):
            there.message(to="nobody@server.test")  # type: ignore[attr-defined]


def test_a_long_call_waits_for_its_turn(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    full = [Answer(503, {"retry-after": "0.01"}, b"{}")] * 2

    def sent(*given: object, real: Any = Client._send) -> Answer:
        asked.append(given)
        return full.pop() if full else real(*given)

    monkeypatch.setattr(Client, "_send", sent)
    assert remote.servers == {}
    assert len(asked) == 3


def test_files(remote: Remote) -> None:
    with remote.start("ftp/healthy", files={"a.txt": "hello"}) as there:
        with FTP() as ftp:
            ftp.connect(there.host, there.port)
            ftp.login()
            ftp.storbinary("STOR in/b.bin", BytesIO(b"\x00\xff")) if "in" in ftp.nlst() else ftp.storbinary(
                "STOR b.bin", BytesIO(b"\x00\xff")
            )
        there.assert_stored("b.bin", b"\x00\xff")  # type: ignore[attr-defined]
        there.assert_no_partial_files()  # type: ignore[attr-defined]
        files = there.files  # type: ignore[attr-defined]
        assert (files["a.txt"], files.size("b.bin"), files.partial) == (b"hello", 2, ())
        assert files.sha256("/a.txt") == hashlib.sha256(b"hello").hexdigest()
        with pytest.raises(KeyError, match="there is no such file; there are a.txt, b.bin"):
            _ = files["none"]


def test_https(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with remote.start("http/healthy") as there:
        assert there.ca_file == there.ca_file
        assert not list(tmp_path.glob("*.pem"))  # it goes with this process
        assert httpx.get(there.url, verify=ssl.create_default_context(cafile=there.ca_file)).status_code == 200
        there.assert_not_coalesced()  # type: ignore[attr-defined]
        with there.resolving():  # type: ignore[attr-defined]
            url = there.url_for(there.hosts[0], "/a")  # type: ignore[attr-defined]
            assert httpx.get(url, verify=there.ssl_context()).json()["path"] == "/a"  # type: ignore[attr-defined]
        there.assert_delivered()
    with remote.start() as there, pytest.raises(ValueError, match="does not speak TLS"):
        _ = there.ca_file


def test_servers_by_their_names(remote: Remote) -> None:
    remote.start(name="primary", group="mx", speed=0)
    remote.start(name="backup", group="mx")
    assert list(remote.servers) == ["primary", "backup"]
    remote.advance("1m")
    assert [fake.clock.now() for fake in remote.servers.values()] == [60, 60]
    assert remote["backup"].group == remote.primary.group == "mx"
    with pytest.raises(AttributeError, match="did you mean 'primary'"):
        _ = remote.primry
    remote["primary"].stop()
    with pytest.raises(ControlError, match="there is no server 'primary'"):
        remote["primary"].stop()


def test_mistakes_raise_what_they_raise_on_a_local_fake(remote: Remote) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'outage'"):
        remote.start("smtp/overload", outag="1s")
    with pytest.raises(ScenarioError, match="did you mean 'smtp/overload'"):
        remote.start("smtp/overlod")
    with pytest.raises(ScenarioError, match="none.toml: cannot be read: No such file"):
        remote.start("none.toml")
    with remote.start() as there, pytest.raises(StartError, match=str(there.port)):
        remote.start(port=there.port)


def test_where_no_control_api_is(unused_port: int) -> None:
    with pytest.raises(ControlError, match="is `notnow serve --control` running there"):
        notnow.connect(f"http://127.0.0.1:{unused_port}")
    for url in ("ftp://127.0.0.1", "", "http://127.0.0.1:70000", "http://[::1", "http://127.0.0.1:x"):
        with pytest.raises(ValueError, match=f"'{re.escape(url)}' is no URL of a control API"):
            notnow.connect(url)
    with (
        FakeSMTP() as smtp,
        pytest.raises(ControlError, match="answers, and not as a control API of notnow does: '220 fake"),
    ):
        notnow.connect(f"{smtp.host}:{smtp.port}")
    with (
        notnow.FakeHTTP("http/healthy", tls="none") as fake,
        pytest.raises(ControlError, match="not as a control API of notnow does"),
    ):
        notnow.connect(fake.url)


@pytest.fixture
def unused_port() -> int:
    with FakeSMTP() as fake:
        return fake.port
