"""FakeFTP over real sockets: faults amid a transfer, of what PASV announces, and what comes unasked."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl

import pytest

from ftp_client import BIG, Data, Raw, one, port_of, rules, then, trusting
from notnow import FakeFTP, ManualClock
from notnow.servers.ftp import data_ports

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 Not now, says the test"


def unheard(fake: FakeFTP, raw: Raw) -> Data:
    """A data connection of which the loop does not tell. uvloop tells late of some: after three further commands."""
    port = port_of(raw.say("PASV"))
    (session,) = fake._bridge.sessions.values()
    fake._bridge.runner.call(lambda: session.host.loop.remove_reader(session._dtp_acceptor._sock.fileno()))
    return raw.visit(port)


class TestAmidATransfer:
    """`after_bytes`: exactly so many bytes on the wire and in the files, and then what the rule says."""

    SIZE = 3_000_000
    N = 1_234_567

    @pytest.fixture(params=["none", "starttls"])
    def tls(self, request) -> str:
        return request.param

    def begin(self, fake: FakeFTP, tls: str) -> Raw:
        raw = Raw(fake)
        if tls == "none":
            return raw.hello()
        assert raw.code() == "220"
        return raw.auth(trusting(fake)).login().protect(trusting(fake))

    def cut(self, on: str = "transfer", **fault: object) -> FakeFTP:
        return FakeFTP(rules(one(on, after_bytes=self.N, **fault)), tls="starttls", clock=ManualClock())

    @pytest.mark.parametrize("mode", ["PASV", "EPSV", "PORT", "EPRT"])
    @pytest.mark.parametrize("on", ["transfer", "retr"])
    def test_a_download_gets_exactly_so_many_bytes(self, on, mode, tls):
        with self.cut(on, reply=NO) as fake, self.begin(fake, tls) as raw, raw.data(mode) as data:
            assert raw.code("RETR big.bin")[0] == "1"
            assert data.exactly(self.N) == fake.files["big.bin"][: self.N]
            assert self.rest(data) == b""
            assert raw.until_end() == f"{NO}\r\n"
            retr, cut = fake.journal.exchanges[-2:]
            assert (retr.facts.bytes, retr.facts.whole, retr.facts.data) == (self.N, False, "fin")
            assert retr.reply[0] == "1"
            assert (cut.moment, cut.request, cut.reply) == ("transfer", f"({self.N} bytes so far)", NO)
            assert (cut.rule, cut.fault, cut.closed) == ("phase[0].rule[0]", "reply+after_bytes", True)

    def rest(self, data) -> bytes:
        """In TLS an end without a goodbye is an error; here it is what was asked for."""
        try:
            return data.rest()
        except ssl.SSLEOFError:
            return b""

    @pytest.mark.parametrize("mode", ["PASV", "PORT"])
    @pytest.mark.parametrize("on", ["transfer", "stor"])
    def test_an_upload_stays_with_exactly_so_many_bytes(self, on, mode, tls):
        content = bytes(range(256)) * (self.SIZE // 256)
        with self.cut(on, reply=NO) as fake, self.begin(fake, tls) as raw, raw.data(mode) as data:
            assert raw.code("STOR new.bin")[0] == "1"
            with contextlib.suppress(OSError):  # what we send to a data connection that is closed
                data.send(content)
            assert raw.until_end() == f"{NO}\r\n"
            assert fake.files["new.bin"] == content[: self.N]
            assert fake.files.partial == ("new.bin",)
            assert fake.journal.exchanges[-2].facts.bytes == self.N

    @pytest.mark.parametrize("size", [1, 65_536, 262_144, 262_145, 1_048_576, 2_999_999, 3_000_000])
    def test_at_any_byte(self, size):
        with FakeFTP(rules(one("transfer", after_bytes=size, reply="426 cut"))) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert raw.code("RETR big.bin")[0] == "1"
                assert data.rest() == fake.files["big.bin"][:size]
                assert raw.reply() == "426 cut"
            with raw.data() as data:
                assert raw.code("STOR new")[0] == "1"
                data.send(fake.files["big.bin"][:size])
                assert raw.reply() == "426 cut"
            assert fake.files["new"] == fake.files["big.bin"][:size]
            assert raw.code("NOOP") == "200"

    def test_never_if_it_ends_sooner(self):
        with FakeFTP(rules(one("transfer", after_bytes=15, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.get("RETR small.txt") == b"A small file.\n"
            assert raw.put("STOR new", b"x" * 14)[:3] == "226"
            assert raw.code("RETR nowhere") == "425"
            with raw.data():
                assert raw.code("RETR nowhere") == "550"
            assert raw.code("NOOP") == "200"
            with raw.data() as data:
                assert raw.code("STOR new")[0] == "1"
                data.send(b"x" * 15)
                assert raw.until_end() == f"{NO}\r\n"

    @pytest.mark.parametrize("line", ["RETR big.bin", "LIST", "MLSD", "NLST"])
    def test_of_a_listing_too_and_of_an_ascii_download(self, line):
        files = {f"{i:05}": b"" for i in range(500)} | {"big.bin": "3MB"}
        with FakeFTP(rules(one("transfer", after_bytes=1234, reply="426 cut")), files=files) as fake:
            with Raw(fake).hello() as raw, raw.data() as data:
                assert raw.code("TYPE A") == "200"
                assert raw.code(line)[0] == "1"
                assert len(data.rest()) == 1234
                assert raw.reply() == "426 cut"

    @pytest.mark.parametrize("how", ["fin", "reset", "drain"])
    @pytest.mark.parametrize("closes", [True, False])
    def test_how_the_data_connection_of_a_download_ends(self, how, closes, tls):
        with self.cut(data=how, close=closes) as fake, self.begin(fake, tls) as raw, raw.data() as data:
            assert raw.code("RETR big.bin")[0] == "1"
            if how == "reset":  # what has not been fetched by then is lost with it
                with pytest.raises(
                    (ConnectionResetError, ssl.SSLEOFError) if tls == "starttls" else ConnectionResetError
                ):
                    data.rest()
            else:
                assert data.exactly(self.N) == fake.files["big.bin"][: self.N]
                assert self.rest(data) == b""
            if closes:
                assert raw.until_end() == ""
            else:
                assert raw.reply() == "426 Connection closed; transfer aborted."
                assert raw.code("NOOP") == "200"
            assert next(x for x in fake.journal if x.moment == "retr").facts.data == how

    def test_a_drained_upload_can_be_sent_to_its_end(self):
        """The client is not disturbed while it sends; only the reply tells that it was cut."""
        content = bytes(range(256)) * (self.SIZE // 256)
        with self.cut("stor", data="drain", reply="451 cut") as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(content)
            assert data.sock.recv(1) == b""  # our side of it is half-closed
            data.end()
            assert raw.reply() == "451 cut"
            assert fake.files["new"] == content[: self.N]

    def test_a_reset_upload_cannot(self):
        with self.cut("stor", data="reset", reply="451 cut") as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"x" * self.N)
            with pytest.raises(OSError):
                while True:
                    data.send(b"x" * 65_536)
            assert raw.reply() == "451 cut"
            assert len(fake.files["new"]) == self.N

    @pytest.mark.parametrize("before", [None, b"what was there before"])
    def test_keep_false_takes_it_all_back(self, before):
        files = {} if before is None else {"new": before}
        scenario = rules(one("stor", after_bytes=5, reply="451 cut", keep=False))
        with FakeFTP(scenario, files=files) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"1234567890")
            assert raw.reply() == "451 cut"
            assert fake.files.get("new") == before
            assert fake.files.partial == ()

    def test_a_lying_226(self):
        with self.cut("stor", reply="226 Transfer complete.") as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"x" * (self.N + 1))
            assert raw.reply() == "226 Transfer complete."
            assert len(fake.files["new"]) == self.N
            assert fake.files.partial == ("new",)

    def test_a_delay_pauses_it_first(self):
        with self.cut(delay="10s", reply="426 cut") as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("RETR big.bin")[0] == "1"
            data.exactly(self.N)
            fake.wait_for(lambda j: j.exchanges[-1].request.endswith("so far)"))
            raw.send("STAT\r\n")
            fake.clock.advance("9s")
            assert raw.silent()
            fake.clock.advance("1s")
            assert raw.reply() == "426 cut"
            assert raw.code() == "211"
            assert data.rest() == b""

    def test_a_stall_pauses_it_for_good(self):
        with self.cut(stall=True) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("RETR big.bin")[0] == "1"
            data.exactly(self.N)
            fake.wait_for(lambda j: any(x.fault == "stall+after_bytes" for x in j))
            fake.clock.advance("1d")
            assert raw.silent()
            data.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                data.sock.recv(1)
            raw.close()
            fake.wait_for(lambda j: j.connections[0].ended_by == "client")
            data.sock.setblocking(True)
            assert data.rest() == b""
            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert not fake._bridge.tasks

    @pytest.mark.parametrize("close", ["reset", "abrupt"])
    def test_the_control_connection_may_end_with_it(self, close):
        with self.cut(close=close) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("RETR big.bin")[0] == "1"
            if close == "reset":
                with pytest.raises(ConnectionResetError):
                    raw.until_end()
                data.exactly(self.N)
            else:
                assert raw.until_end() == ""
                assert len(data.rest()) == self.N

    def test_the_next_transfer_is_healthy_again(self):
        with FakeFTP(rules(one("retr", times=1, after_bytes=1000, reply="426 cut"))) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                raw.send("RETR big.bin\r\n")
                data.rest()
                assert [reply[:3] for reply in raw.replies(2)][1] == "426"
            assert raw.code("REST 1000") == "350"
            assert raw.get("RETR big.bin") == fake.files["big.bin"][1000:]

    def test_a_scenario_that_is_swapped_meanwhile_lets_it_go_on(self):
        with self.cut(reply=NO) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"x" * 1000)
            fake.play("ftp/healthy")
            data.send(b"x" * self.N)
            data.end()
            assert raw.code() == "226"
            assert len(fake.files["new"]) == self.N + 1000


class TestAnnounced:
    """What PASV and EPSV announce: a wrong address, a port where nobody listens, a connection that is doomed."""

    def test_a_wrong_address_with_the_right_port(self):
        reply = "227 Entering Passive Mode (192,0,2,1,{p1},{p2})."
        with FakeFTP(rules(one("pasv", reply=reply))) as fake, Raw(fake).hello() as raw:
            said = raw.say("PASV")
            assert said.startswith("227 Entering Passive Mode (192,0,2,1,")
            with raw.visit(port_of(said)) as data:
                assert raw.code("RETR small.txt")[0] == "1"
                assert data.rest() == b"A small file.\n"
            assert fake.journal.exchanges[-2].reply == said

    def test_the_port_of_epsv(self):
        with FakeFTP(rules(one("epsv", reply="229 Use (|||{data.port}|)"))) as fake, Raw(fake).hello() as raw:
            assert raw.get("RETR small.txt", "EPSV") == b"A small file.\n"

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    def test_a_wrong_port(self, mode):
        reply = {"PASV": "227 Entering Passive Mode (127,0,0,1,{p1},{p2}).", "EPSV": "229 Use (|||{data.port}|)"}[mode]
        with FakeFTP(rules(one(mode.lower(), reply=reply, keep=False))) as fake, Raw(fake).hello() as raw:
            port = port_of(raw.say(mode))
            with pytest.raises(ConnectionRefusedError):
                raw.visit(port)
            assert port_of(raw.say(mode)) == port  # it is held: nobody else will listen there
            assert raw.code("RETR small.txt") == "425"
            assert raw.get("RETR small.txt", "PORT")

    @pytest.mark.skipif("sys.platform != 'linux'", reason="elsewhere, the system chooses the port")
    def test_a_port_that_another_process_takes_at_the_same_time(self, monkeypatch):
        """Linux lets two bind it, and one listen."""
        rival = socket.socket()
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(("127.0.0.1", 0))
        chosen = iter([rival.getsockname()[1]])

        def choose() -> float:
            port = next(chosen, None)
            return random.Random().random() if port is None else (port + 0.5 - data_ports.FIRST) / data_ports.PORTS

        def bound(session: object) -> socket.socket:
            sock = really_bound(session)
            rival.listen()
            return sock

        really_bound = data_ports.bound
        monkeypatch.setattr("notnow.servers.ftp.data_ports.bound", bound)
        monkeypatch.setattr("notnow.servers.ftp.data_ports.random.random", choose)
        with rival, FakeFTP() as fake, Raw(fake).hello() as raw:
            assert raw.get("RETR small.txt") == b"A small file.\n"
        assert next(chosen, None) is None

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    @pytest.mark.parametrize("how", ["fin", "reset", "drain"])
    def test_a_doomed_connection(self, mode, how):
        with FakeFTP(rules(one(["pasv", "epsv"], times=1, data=how))) as fake, Raw(fake).hello() as raw:
            port = port_of(raw.say(mode))
            assert raw.code("RETR small.txt") == "150"
            with raw.visit(port) as data:
                if how == "reset":
                    with pytest.raises(ConnectionResetError):
                        data.rest()
                else:
                    assert data.rest() == b""
                assert raw.reply() == "426 Connection closed; transfer aborted."
            assert fake.journal.exchanges[-1].facts.data == how
            with raw.data(mode) as data:
                fake.settle()  # it has come, and nothing of the last transfer has waited for it
                assert raw.code("RETR small.txt") == "125"
                assert data.rest() == b"A small file.\n"

    @pytest.mark.parametrize("how", ["fin", "drain"])
    def test_a_doomed_connection_that_comes_before_the_command(self, how):
        """As most clients have it: they connect, and then say what for."""
        with FakeFTP(rules(one("pasv", times=1, data=how))) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert data.rest() == b""
                assert raw.say("RETR small.txt") == "426 Connection closed; transfer aborted."
            facts = fake.journal.exchanges[-1].facts
            assert (facts.mode, facts.data, facts.whole) == ("passive", how, False)
            assert raw.say("RETR small.txt") == "425 Use PORT or PASV first."
            assert raw.get("RETR small.txt") == b"A small file.\n"

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    def test_a_connection_that_never_gets_through(self, mode):
        with FakeFTP(rules(one(["pasv", "epsv"], times=1, data="drop"))) as fake, Raw(fake).hello() as raw:
            port = port_of(raw.say(mode))
            with socket.socket() as sock:
                sock.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    sock.connect((fake.host, port))
            assert raw.code("RETR small.txt") == "150"
            fake.settle()
            assert raw.silent()
            assert [raw.code("ABOR"), raw.code()] == ["426", "226"]
            assert raw.get("RETR small.txt", mode) == b"A small file.\n"

    @pytest.mark.parametrize("reply", ["425 no", "500 no"])
    def test_passive_blocked_while_active_works(self, reply):
        with FakeFTP(rules(one(["pasv", "epsv"], reply=reply))) as fake, Raw(fake).hello() as raw:
            assert raw.say("PASV") == reply
            assert raw.say("EPSV") == reply
            assert raw.get("RETR small.txt", "PORT") == b"A small file.\n"
            assert raw.get("RETR small.txt", "EPRT") == b"A small file.\n"

    def test_active_blocked_while_passive_works(self):
        scenario = rules(one("transfer", where={"mode": "active"}, reply="425 Can't open data connection."))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            for mode in ("PORT", "EPRT"):
                with raw.data(mode):
                    assert raw.say("RETR small.txt") == "425 Can't open data connection."
            for mode in ("PASV", "EPSV"):
                assert raw.get("RETR small.txt", mode) == b"A small file.\n"

    def test_what_became_of_a_doomed_connection_is_not_said_of_a_later_one(self):
        with FakeFTP(rules(one("pasv", first=1, data="fin"))) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert data.rest() == b""
            with raw.data("EPSV"):
                assert raw.code("ABOR") == "225"
            assert raw.say("RETR small.txt") == "425 Use PORT or PASV first."

    def test_no_doom_is_left_by_a_pasv_that_was_refused(self):
        with FakeFTP(rules(one("pasv", times=1, data="reset"))) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            assert raw.code("PASV") == "530"
            raw.login()
            assert raw.get("RETR small.txt") == b"A small file.\n"


class TestUnasked:
    """`enter`, `idle`, `error`: what a client hears without having asked."""

    def test_enter_acts_on_every_live_connection(self):
        down = then("down", one("enter", reply=NO))
        with FakeFTP(rules(down, phase="until = { noop = 2 }")) as fake, Raw(fake).hello() as a, Raw(fake).hello() as b:
            assert a.code("NOOP") == "200"
            b.send("NOOP\r\n")
            assert b.until_end() == f"200 I successfully did nothing'.\r\n{NO}\r\n"
            assert a.until_end() == f"{NO}\r\n"

    @pytest.mark.parametrize("how", [None, "fin", "reset", "drain"])
    @pytest.mark.parametrize("verb", ["RETR", "STOR"])
    def test_enter_amid_a_transfer(self, verb, how):
        fault = {} if how is None else {"data": how}
        scenario = rules(then("down", one("enter", reply=NO, **fault)))
        with FakeFTP(scenario, files={"x": "30MB"}) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code(f"{verb} x")[0] == "1"
            if verb == "STOR":
                data.send(b"x" * 1000)
                fake.wait_for(lambda j: len(fake.files["x"]) == 1000)
            else:
                data.exactly(1000)
            fake.next_phase()
            assert raw.until_end() == f"{NO}\r\n"
            if how == "reset":
                with pytest.raises(ConnectionResetError):
                    data.rest()
            else:
                data.rest()
            fake.settle()
            facts = next(x.facts for x in fake.journal if x.facts)
            assert (facts.whole, facts.data) == (False, how or "fin")

    @pytest.mark.parametrize("how", [None, "fin", "reset", "drain"])
    def test_enter_as_a_transfer_begins(self, how):
        fault = {} if how is None else {"data": how}
        scenario = rules(then("down", one("enter", reply=NO, **fault)), phase="until = { transfer = 1 }")
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            with unheard(fake, raw) as data:
                raw.send("RETR big.bin\r\n")
                assert raw.until_end().endswith(f"\r\n{NO}\r\n")
                if how == "reset":
                    with pytest.raises(ConnectionResetError):
                        data.rest()
                else:
                    assert len(data.rest()) < BIG
            (facts,) = (x.facts for x in fake.journal if x.facts)
            assert (facts.whole, facts.data) == (False, how or "fin")

    @pytest.mark.parametrize(
        ("act", "code"),
        [("enter", "421"), ("ABOR", "225"), ("PASV", "227"), ("EPSV", "229"), ("QUIT", "221"), ("NOOP", "200")],
    )
    def test_a_connection_that_has_just_come_ends_in_order(self, act, code):
        """It waits to be accepted as the fake stops to listen: the kernel would reset it."""
        with FakeFTP(rules(then("down", one("enter", reply=NO)))) as fake, Raw(fake).hello() as raw:
            with unheard(fake, raw) as data:
                fake.next_phase() if act == "enter" else raw.send(f"{act}\r\n")
                assert raw.code() == code
                if act == "NOOP":
                    assert raw.code("LIST") == "125"
                    assert b"big.bin" in data.rest()
                else:
                    assert data.rest() == b""

    def test_enter_that_does_not_close_lets_a_transfer_go_on(self):
        scenario = rules(then("down", one("enter", reply="450 soon down")))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"1")
            fake.next_phase()
            assert raw.reply() == "450 soon down"
            data.send(b"2")
            data.end()
            assert raw.code() == "226"
            assert fake.files["new"] == b"12"

    def test_enter_where_something_is_in_progress(self):
        scenario = rules(then("down", one("enter", where={"command": "STOR", "mode": "passive"}, reply=NO)))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as idle, Raw(fake).hello() as raw, raw.data():
            assert raw.code("STOR new")[0] == "1"
            fake.next_phase()
            assert raw.until_end() == f"{NO}\r\n"
            assert idle.code("NOOP") == "200"

    @pytest.mark.parametrize(
        ("mode", "is_"), [("PASV", "passive"), ("EPSV", "passive"), ("PORT", "active"), ("EPRT", "active")]
    )
    def test_enter_where_a_data_connection_is_prepared(self, mode, is_):
        """From its announcement until it is there, of a transfer to the end, or until it is called off."""
        scenario = rules(*(then(f"{n}", one("enter", where={"mode": is_}, reply=f"450 {n}")) for n in range(5)))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            fake.next_phase()
            with raw.listen() as port:
                assert raw.say(mode if is_ == "passive" else raw.where(port, mode))[0] == "2"
                fake.next_phase()
                assert raw.reply() == "450 1"
            with raw.data(mode) as data:
                assert raw.code("STOR x")[0] == "1"
                fake.next_phase()
                assert raw.reply() == "450 2"
                data.end()
                assert raw.code() == "226"
            fake.next_phase()
            with raw.data(mode):
                assert raw.code("ABOR") == "225"
            fake.next_phase()
            assert raw.code("NOOP") == "200"

    def idle(self, **conditions: object) -> FakeFTP:
        return FakeFTP(rules(one("idle", after="5m", reply=NO, **conditions)), clock=ManualClock())

    def test_idle_since_any(self):
        with self.idle() as fake, Raw(fake).hello() as raw:
            fake.clock.advance("4m")
            assert raw.code("NOOP") == "200"
            fake.clock.advance("4m")
            assert raw.silent()
            fake.clock.advance("1m")
            assert raw.until_end() == f"{NO}\r\n"
            assert fake.journal.exchanges[-1].moment == "idle"

    def test_who_transfers_is_not_idle(self):
        with self.idle() as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            for _ in range(5):
                fake.clock.advance("4m")
                data.send(b"x")
                fake.settle()
            data.end()
            assert raw.code() == "226"
            fake.clock.advance("5m")
            assert raw.until_end() == f"{NO}\r\n"

    def test_a_transfer_in_which_nothing_moves_is_silence(self):
        with self.idle() as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"x")
            fake.settle()
            fake.clock.advance("5m")
            assert raw.until_end() == f"{NO}\r\n"
            assert data.rest() == b""
            assert fake.files.partial == ("new",)

    def test_idle_since_the_last_transfer(self):
        with self.idle(since="transfer") as fake, Raw(fake).hello() as raw:
            fake.clock.advance("4m")
            assert raw.get("RETR small.txt")
            fake.clock.advance("4m")
            assert raw.code("NOOP") == "200"  # no transfer
            with raw.data() as data:
                assert raw.code("STOR new")[0] == "1"
                for _ in range(3):
                    fake.clock.advance("30s")
                    data.send(b"x")
                    fake.settle()
                data.end()
                assert raw.code() == "226"
            fake.clock.advance("4m")
            assert raw.code("NOOP") == "200"
            fake.clock.advance("1m")
            assert raw.until_end() == f"{NO}\r\n"

    def test_idle_since_connect(self):
        with self.idle(since="connect") as fake, Raw(fake).hello() as raw:
            for _ in range(4):
                fake.clock.advance("1m")
                assert raw.get("RETR small.txt")
            fake.clock.advance("1m")
            assert raw.until_end() == f"{NO}\r\n"

    def test_idle_in_a_transfer_may_end_the_data_connection_and_nothing_else(self):
        scenario = rules(one("idle", after="5m", where={"command": "STOR"}, data="reset", reply="426 stalled"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"123")
            fake.settle()
            fake.clock.advance("5m")
            assert raw.reply() == "426 stalled"
            with pytest.raises(ConnectionResetError):
                data.rest()
            fake.clock.advance("1h")
            assert raw.code("NOOP") == "200"

    def test_who_waits_for_our_answer_is_not_idle(self):
        scenario = rules(one("idle", after="5m", reply=NO), one(["noop", "retr"], delay="1h"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw, raw.data() as data:
            raw.send("NOOP\r\n")
            fake.settle()
            fake.clock.advance("1h")
            assert raw.code() == "200"
            raw.send("RETR small.txt\r\n")
            fake.settle()
            fake.clock.advance("1h")
            assert raw.code()[0] == "1"
            assert data.rest()
            assert raw.code() == "226"

    def test_error_adds_a_reply(self):
        """Too many failed logins: the third is told 421."""
        scenario = rules(one("error", where={"command": "PASS"}, per="connection", nth=3, reply=NO))
        with FakeFTP(scenario, users={"ann": "x"}) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            assert raw.code("BOGUS") == "500"
            for _ in range(2):
                raw.say("USER ann")
                assert raw.code("PASS y") == "530"
            raw.say("USER ann")
            raw.send("PASS y\r\n")
            assert raw.until_end() == f"530 Login incorrect.\r\n{NO}\r\n"
            added = fake.journal.exchanges[-1]
            assert (added.moment, added.reply, added.closed) == ("error", NO, True)

    def test_error_after_the_end_of_a_transfer(self):
        with FakeFTP(rules(one("error", where={"command": "RETR"}, reply=NO)), files={"x": "30MB"}) as fake:
            with Raw(fake).hello() as raw:
                with raw.data() as data:
                    assert raw.code("RETR x")[0] == "1"
                    data.exactly(1000)
                    data.reset()
                assert raw.code() == "426"
                assert raw.until_end() == f"{NO}\r\n"

    def test_error_after_a_reply_of_a_rule(self):
        scenario = rules(one("error", where={"command": "STOR"}, reply=NO), one("transfer", reply="450 busy"))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            assert raw.code("RETR x") == "450"
            raw.send("STOR x\r\n")
            assert raw.until_end() == f"450 busy\r\n{NO}\r\n"

    def test_the_fake_stops_amid_a_transfer(self):
        with FakeFTP(files={"x": "30MB"}) as fake:
            raw = Raw(fake).hello()
            data = raw.data()
            assert raw.code("RETR x")[0] == "1"
            data.exactly(1000)
        with raw, data:
            assert raw.until_end() == "421 Service not available, closing control connection.\r\n"
            data.rest()
        assert next(x.facts for x in fake.journal if x.facts).data == "fin"
