"""The life of a FakeFTP: starting, stopping, many at a time, time by hand, and errors of our own."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import io
import threading
import time
import weakref

import aioftp
import pytest

from ftp_client import Raw, one, rules, then, trusting
from notnow import FakeError, FakeFTP, FakeSMTP, ManualClock, RealClock, ScenarioError, WaitTimeoutError
from notnow.garbage import uncollected
from notnow.servers import by_protocol
from notnow.servers.base import bridge as _bridge
from notnow.servers.ftp.files import filling
from notnow.servers.ftp.session import FTPSession

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 Not now, says the test"
GOODBYE = "421 Service not available, closing control connection.\r\n"


class TestLife:
    def test_its_name_address_and_class(self):
        assert by_protocol("ftp") is FakeFTP
        with FakeFTP() as fake:
            assert fake.url == f"ftp://127.0.0.1:{fake.port}"
            assert repr(fake) == f"<FakeFTP ftp/healthy, {fake.url}>"
            assert (fake.protocol, fake.name, fake.journal.protocol) == ("ftp", "ftp", "ftp")
        with FakeFTP(tls="implicit", name="mine") as fake:
            assert fake.url.startswith("ftps://")
            assert fake.name == "mine"

    def test_it_can_be_started_again(self):
        fake = FakeFTP()
        for _ in range(3):
            with fake, Raw(fake).hello() as raw:
                assert raw.put("STOR x", b"1")[:3] == "226"
                assert raw.get("RETR small.txt", "PORT")
        assert len(fake.journal.connections) == 3

    def test_a_session_has_few_attributes_beside_its_slots(self):
        """CPython 3.11 takes longer to find any of them, and any method, once there are more than 30."""
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            raw.get("LIST")
            assert raw.put("STOR x", b"1")[:3] == "226"
            raw.get("RETR small.txt", "PORT")
            (session,) = fake._bridge.sessions.values()
            assert len(vars(session)) <= 30

    def test_in_an_event_loop_with_a_client_in_it(self):
        async def main() -> None:
            async with FakeFTP() as fake:
                async with aioftp.Client.context(fake.host, fake.port, "ann", "x") as client:
                    async with client.upload_stream("x") as stream:
                        await stream.write(b"123")
                    names = [str(path) for path, _ in await client.list()]
                    assert sorted(names) == ["big.bin", "small.txt", "x"]
                await fake.await_for(lambda j: j.connections[0].ended_by)
                fake.assert_delivered()
            assert not fake.running

        asyncio.run(main())

    def test_options_of_others_and_scenarios_of_others(self):
        for bad in ({"app": None}, {"tls": "ssl"}, {"users": ["ann"]}, {"no_such_knob": 1}):
            with pytest.raises(ScenarioError):
                FakeFTP(**bad)
        with pytest.raises(ScenarioError, match="is a scenario for smtp"):
            FakeFTP("smtp/overload")
        with FakeFTP() as fake, pytest.raises(ScenarioError, match="is a scenario for smtp"):
            fake.play("smtp/overload")

    def test_a_session_that_has_ended_is_in_no_circle(self):
        """Its memory is free at once, and not when the garbage collector next comes."""
        with FakeFTP() as fake, uncollected():
            with Raw(fake).hello() as raw:
                (session,) = fake._bridge.sessions.values()
                ended = weakref.ref(session)
                del session
                assert raw.get("LIST")
                assert raw.code("QUIT") == "221"
                assert raw.until_end() == ""
            fake.wait_for(lambda _: not fake._bridge.sessions)
            fake._bridge.settle()
            assert ended() is None


class TestMany:
    def test_twenty_at_once_do_not_disturb_each_other(self):
        cap = rules(one("connect", over=1, reply=NO), one("retr", nth=2, after_bytes=1000, reply="426 cut"))
        fakes = [FakeFTP(cap, files={"x": filling(100_000 + i)}).start() for i in range(20)]

        def visit(fake: FakeFTP, i: int) -> None:
            mode = ("PASV", "EPSV", "PORT", "EPRT")[i % 4]
            for n in range(4):
                with Raw(fake).hello() as raw:
                    raw.put(f"STOR {n}", b"%d" % i, mode)
                    if n == 1:
                        with raw.data(mode) as data:
                            raw.send("RETR x\r\n")
                            assert data.rest() == filling(100_000 + i)[:1000]
                            assert raw.replies(2)[1] == "426 cut"
                    else:
                        assert raw.get("RETR x", mode) == filling(100_000 + i)
                    assert raw.code("QUIT") == "221"

        threads = [threading.Thread(target=visit, args=(fake, i)) for i, fake in enumerate(fakes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, fake in enumerate(fakes):
            assert {name: fake.files[name] for name in "0123"} == dict.fromkeys("0123", b"%d" % i)
            assert fake.journal.count("connect") == 4
            assert fake._bridge.ports == {fake.port}
            fake.stop()

    def test_one_that_stops_leaves_the_others_alone(self):
        with FakeFTP() as other, Raw(other).hello() as raw, raw.data() as data:
            assert raw.code("STOR x")[0] == "1"
            data.send(b"1")
            with FakeFTP() as fake, Raw(fake).hello():
                pass
            data.send(b"2")
            data.end()
            assert raw.code() == "226"
            assert other.files["x"] == b"12"

    def test_a_fake_smtp_and_a_fake_ftp_under_one_clock_have_one_order(self):
        clock = ManualClock()
        with FakeFTP(clock=clock) as ftp, FakeSMTP(clock=clock) as smtp, Raw(ftp).hello() as raw:
            with Raw(smtp) as mail:  # type: ignore[arg-type]
                mail.reply()
                clock.advance(5)
                raw.put("STOR a", b"1")
                mail.send("NOOP\r\n")
                mail.reply()
                clock.advance(5)
                raw.get("RETR a")
        told = [x for x in (*ftp.journal, *smtp.journal) if x.moment in ("stor", "noop", "retr")]
        assert [(x.moment, x.at) for x in sorted(told, key=lambda x: x.index)] == [
            ("stor", 5),
            ("noop", 5),
            ("retr", 10),
        ]
        assert len({x.index for x in told}) == 3

    def test_two_that_act_at_the_same_time_by_one_clock(self):
        clock = ManualClock()
        down = then("down", one("enter", reply=NO))
        with (
            FakeFTP(rules(down, phase='lasts = "10s"'), clock=clock) as a,
            FakeFTP(rules(down, phase='lasts = "20s"'), clock=clock) as b,
        ):
            with Raw(a).hello() as first, Raw(b).hello() as second:
                clock.advance(10)
                assert first.until_end() == f"{NO}\r\n"
                assert second.silent()
                clock.advance(10)
                assert second.until_end() == f"{NO}\r\n"


class TestStop:
    def test_live_sessions_are_told_421_and_then_the_end(self):
        with FakeFTP() as fake:
            raws = [Raw(fake).hello() for _ in range(5)]
            raws[1].send("RETR half")
            raws[2].code("PASV")
            raws[3].code("EPSV")
            assert raws[3].code("STOR x") == "150"
            raws[4].hold()
            assert raws[4].code("STOR y")[0] == "1"
            raws[4].held[0].send(b"1")
            fake.wait_for(lambda j: fake.files.get("y") == b"1")
        for raw in raws:
            with raw:
                assert raw.until_end() == GOODBYE
        assert [x.fault for x in fake.journal if x.moment == "enter"] == ["stopped"] * 5
        assert {c.ended_by for c in fake.journal.connections} == {"fake"}
        assert fake.files.partial == ("x", "y")

    def test_every_kind_of_session_ends_with_the_fake_and_soon(self):
        slow = (
            one("noop", delay="1h"),
            one("syst", stall=True),
            one("retr", after_bytes=5, stall=True),
            one("stor", after_bytes=3, delay="1h", reply="426 x"),
        )
        before = threading.active_count()
        scenario = rules(*slow, then("down", one("enter", delay="1h", reply=NO)))
        with FakeFTP(scenario, tls="starttls", clock=ManualClock()) as fake:
            raws = [Raw(fake).hello() for _ in range(7)]
            raws[0].send("NOOP\r\n")
            raws[1].send("SYST\r\n")
            raws[2].send("AUTH TLS\r\n")
            raws[3].hold()
            raws[3].send("RETR big.bin\r\n")
            raws[4].hold()
            raws[4].send("STOR x\r\n")
            raws[4].held[0].send(b"12345")
            raws[5].code("PASV")
            raws[5].send("LIST\r\n")
            raws.append(Raw(fake))
            fake.wait_for(
                lambda j: (
                    sum(x.request.endswith("so far)") for x in j) == 2 and j.count("connect") == 8 and j.count("list")
                )
            )
            fake.next_phase()  # everybody is about to be told something, in an hour
            fake.settle()
            began = time.monotonic()
        assert time.monotonic() - began < _bridge.PATIENCE
        for raw in raws:
            raw.until_end()
            raw.close()
        assert all(c.ended_by for c in fake.journal.connections)
        assert threading.active_count() == before

    def test_a_manual_clock_outlives_its_fakes(self):
        clock = ManualClock()
        scenario = rules(
            one("idle", after="5m", reply=NO), one("retr", delay="1h"), then("later"), phase='lasts = "1d"'
        )
        with FakeFTP(clock=clock):
            with FakeFTP(scenario, clock=clock) as fake, Raw(fake).hello() as raw:
                raw.send("RETR x\r\n")
                fake.wait_for(lambda j: j.count("retr"))
            assert clock.due is None
            clock.advance("30d")


class TestClocks:
    def test_advance_returns_when_all_is_on_the_wire(self):
        scenario = rules(then("down", one("enter", reply=NO, data="fin")), phase='lasts = "10s"')
        with FakeFTP(scenario, clock=ManualClock(), files={"x": "30MB"}) as fake:
            raws = [Raw(fake).hello() for _ in range(20)]
            for raw in raws:
                raw.hold()
                assert raw.code("STOR x")[0] == "1"
            fake.clock.advance("10s")
            for raw in raws:
                for sock in (raw.sock, raw.held[0].sock):
                    sock.setblocking(False)
                assert raw.sock.recv(1000) == f"{NO}\r\n".encode()
                assert raw.sock.recv(1) == b""
                assert raw.held[0].sock.recv(1) == b""
                raw.close()

    def test_a_transfer_goes_on_while_the_clock_stands_still(self):
        with FakeFTP(clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            assert len(raw.get("RETR big.bin")) == 3_000_000
            assert fake.clock.now() == 0

    def test_settle_waits_for_what_a_data_connection_brings(self):
        with FakeFTP(clock=ManualClock()) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR x")[0] == "1"
            for i in range(1, 20):
                data.send(b"x" * 10_000)
                fake.settle()
                assert len(fake.files["x"]) == 10_000 * i

    def test_a_fast_clock(self):
        scenario = rules(one("retr", reply="450 no"), then("up"), phase='lasts = "1h"')
        with FakeFTP(scenario, clock=RealClock(speed=50_000)) as fake, Raw(fake).hello() as raw:
            fake.wait_for(lambda j: fake.phase == "up")
            assert raw.get("RETR small.txt")


class TestOurOwnErrors:
    """An exception in our adapter is a bug of notnow: it must not pass for a fault of the scenario."""

    def fails(self, monkeypatch, method: str, *lines: str, scenario=None) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError("our bug")

        monkeypatch.setattr(FTPSession, method, fail)
        fake = FakeFTP(scenario, files={"x": b"1"}).start()
        with Raw(fake).hello() as raw:
            for line in lines:
                raw.send(line + "\r\n")
            with contextlib.suppress(ConnectionResetError):
                raw.until_end()  # that connection ends
        monkeypatch.undo()
        with Raw(fake).hello() as raw:  # and others do not
            assert raw.get("RETR x") == b"1"
        with pytest.raises(FakeError, match=r"the ftp fake itself failed: ZeroDivisionError\('our bug'\)"):
            fake.stop()
        assert not fake.running

    @pytest.mark.parametrize("before", [0, 200])
    def test_in_a_command(self, monkeypatch, before):
        """Be it served at once, or after others have had their turn."""
        self.fails(monkeypatch, "ftp_NOOP", *["SYST"] * before, "NOOP", "SYST")

    def test_in_a_command_that_has_waited_for_a_transfer(self, monkeypatch):
        self.fails(monkeypatch, "ftp_NOOP", "PORT 127,0,0,1,4,0", "RETR x", "NOOP")

    def test_in_a_command_under_a_rule(self, monkeypatch):
        self.fails(monkeypatch, "ftp_NOOP", "NOOP", scenario=rules(one("noop", delay="0s", drip="1ms")))

    def test_in_a_transfer(self, monkeypatch):
        self.fails(monkeypatch, "ftp_RETR", "PASV", "RETR x")

    def test_in_a_transfer_under_a_rule(self, monkeypatch):
        self.fails(monkeypatch, "ftp_RETR", "PASV", "RETR x", scenario=rules(one("retr", times=1, drip="1ms")))

    def test_while_data_is_moved(self, monkeypatch):
        def fail(*_: object) -> None:
            raise ZeroDivisionError("our bug")

        fake = FakeFTP().start()
        with Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR x")[0] == "1"
            monkeypatch.setattr("notnow.servers.ftp.opened.Writer.write", fail)
            data.send(b"1")
            assert raw.until_end() == ""
            assert data.rest() == b""
        monkeypatch.undo()
        assert len(fake._bridge.errors) == 1
        with pytest.raises(FakeError, match="ZeroDivisionError"):
            fake.stop()


def test_waiting_in_vain_shows_both_channels():
    with FakeFTP(rules(one("stor", after_bytes=3, reply="426 cut"))) as fake, Raw(fake).hello() as raw:
        raw.put("STOR x", b"12345")
        with pytest.raises(WaitTimeoutError) as caught:
            fake.wait_for(lambda j: False, timeout=0.05)
    assert "D  (passive) 3 bytes received, then closed" in str(caught.value)


def test_ftplib_does_what_people_do_with_it():
    with FakeFTP() as fake, ftplib.FTP() as client:
        client.connect(fake.host, fake.port)
        assert client.login() == "230 Login successful."
        assert client.getwelcome().startswith("220")
        assert client.mkd("d") == "/d"
        client.cwd("d")
        client.storbinary("STOR a", io.BytesIO(b"12345"))
        client.storlines("STOR t", io.BytesIO(b"one\ntwo\n"))
        client.voidcmd("TYPE I")
        assert client.size("a") == 5
        assert [name for name, facts in client.mlsd(facts=["type"])] == ["a", "t"]
        lines: list[str] = []
        client.retrlines("RETR t", lines.append)
        assert lines == ["one", "two"]
        client.rename("a", "b")
        got: list[bytes] = []
        client.retrbinary("RETR b", got.append, rest=2)
        assert b"".join(got) == b"345"
        client.delete("b")
        client.delete("t")
        client.cwd("..")
        client.rmd("d")
        assert client.nlst() == ["big.bin", "small.txt"]
        sock = client.transfercmd("RETR big.bin")
        sock.recv(1)
        client.abort()
        sock.close()
        assert list(fake.files) == ["big.bin", "small.txt"]


def test_on_uvloop(monkeypatch):
    """NOTNOW_LOOP=uvloop: the same, in TLS too."""
    pytest.importorskip("uvloop")
    monkeypatch.setenv("NOTNOW_LOOP", "uvloop")
    scenario = rules(one("retr", times=1, after_bytes=1000, reply="426 cut"))
    with FakeFTP(scenario, tls="starttls") as fake, Raw(fake) as raw:
        assert raw.code() == "220"
        raw.auth(trusting(fake)).login().protect(trusting(fake))
        assert fake.journal.connections[0].tls.sni == "localhost"
        with raw.data("PORT") as data:
            assert raw.code("RETR big.bin")[0] == "1"
            assert data.exactly(1000) == filling(3_000_000)[:1000]
            assert raw.reply() == "426 cut"
        for mode in ("PASV", "PORT"):
            assert raw.get("RETR big.bin", mode) == filling(3_000_000)
            assert raw.put("STOR x", b"123", mode)[:3] == "226"
    with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:  # and who is in a handshake when it stops
        raw.reply()
        assert raw.code("AUTH TLS") == "234"
        fake.settle()
