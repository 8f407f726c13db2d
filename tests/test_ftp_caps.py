"""Caps of an FTP server are exact whatever the race, places are free in time, and the 421 is always seen."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ftp_client import Raw, one, port_of, rules, then, trusting
from notnow import FakeFTP, ManualClock
from notnow.servers.base.tls import forget_errors

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 Too many connections, says the test"


def at_once(work: Callable[[int], None], n: int) -> None:
    """Do something in so many threads that begin together; raises what went wrong in one."""
    gate, wrong = threading.Barrier(n), list[BaseException]()

    def run(i: int) -> None:
        gate.wait()
        try:
            work(i)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


class Visitors:
    """Many clients at once, who stay until all have been told something."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.raws: list[Raw] = []

    def come(self, fake: FakeFTP, n: int, ask: Callable[[Raw, int], str]) -> Counter[str]:
        def visit(i: int) -> None:
            raw = Raw(fake)
            self.raws.append(raw)
            self.told.append(ask(raw, i))

        at_once(visit, n)
        return Counter(self.told)

    def __enter__(self) -> Visitors:
        return self

    def __exit__(self, *_: object) -> None:
        for raw in self.raws:
            raw.close()


def log_in(raw: Raw, user: str) -> str:
    """The code of the first reply that is a refusal, or of the last."""
    for line in ("", f"USER {user}", "PASS x"):
        code = raw.code(line)
        if code[0] in "45":
            return code
    return code


class TestExact:
    @pytest.mark.parametrize("cap", [1, 7])
    def test_per_server(self, cap):
        with FakeFTP(rules(one("connect", over=cap, reply=NO))) as fake, Visitors() as visitors:
            assert visitors.come(fake, 30, lambda raw, i: raw.code()) == {"220": cap, "421": 30 - cap}

    def test_per_client(self):
        with FakeFTP(rules(one("connect", over=2, per="client", reply=NO))) as fake, Visitors() as visitors:
            assert visitors.come(fake, 10, lambda raw, i: raw.code()) == {"220": 2, "421": 8}
            with _from("127.0.0.2", fake) as other:
                assert other.code() == "220"

    def test_per_user(self):
        scenario = rules(one("login", over=3, per="user", reply="421 Too many connections for this user"))
        with FakeFTP(scenario) as fake, Visitors() as visitors:
            users = ["ann", "bob"]
            told = visitors.come(fake, 20, lambda raw, i: users[i % 2] + log_in(raw, users[i % 2]))
            assert told == {"ann230": 3, "bob230": 3, "ann421": 7, "bob421": 7}

    def test_a_530_at_the_login_leaves_the_connection_open(self):
        """As ProFTPD has it."""
        with FakeFTP(rules(one("login", over=1, reply="530 Sorry, the maximum of 1 is reached"))) as fake:
            with Raw(fake).hello(), Raw(fake) as second:
                assert log_in(second, "ann") == "530"
                assert second.code("PWD") == "530"
                assert second.code("NOOP") == "200"

    @pytest.mark.parametrize("on", ["transfer", "retr"])
    def test_of_transfers(self, on):
        with FakeFTP(rules(one(on, over=2, reply="450 busy")), files={"x": "30MB"}) as fake, Visitors() as visitors:

            def ask(raw: Raw, i: int) -> str:
                raw.hello().hold()
                return raw.code("RETR x")[0]

            assert visitors.come(fake, 8, ask) == {"1": 2, "4": 6}

    def test_of_uploads_with_the_others_left_alone(self):
        with (
            FakeFTP(rules(one("stor", over=1, reply="450 busy"))) as fake,
            Raw(fake).hello() as a,
            Raw(fake).hello() as b,
        ):
            a.hold()
            assert a.code("STOR x")[0] == "1"
            assert b.put("STOR y", b"") == "450 busy"
            assert b.get("RETR small.txt")
            a.held[0].end()
            assert a.code() == "226"
            assert b.put("STOR y", b"")[:3] == "226"

    def test_it_holds_on_and_on(self):
        """A hundred clients come and go against a cap of 3: never more than 3 are in, and each gets in at last."""
        inside = most = left = 0
        changed = threading.Condition()

        def stay(raw: Raw) -> bool:
            """Go in and out again, if there is a place."""
            nonlocal inside, most, left
            if raw.code() == "421":
                return False
            with changed:
                inside += 1
                most = max(most, inside)
            raw.login()
            with changed:
                inside -= 1
            raw.code("QUIT")
            with changed:
                left += 1
                changed.notify_all()
            return True

        def visit(i: int) -> None:
            while True:
                seen = left
                with Raw(fake) as raw:
                    if stay(raw):
                        return
                with changed:
                    assert changed.wait_for(lambda seen=seen: left != seen, timeout=20)

        with FakeFTP(rules(one("connect", over=3, reply=NO))) as fake:
            for _ in range(10):
                at_once(visit, 10)
            assert most <= 3
            assert fake.journal.count("quit") == 100


class TestPlaces:
    """An idle session holds its place; it is free as soon as the session is over, however that comes about."""

    @pytest.fixture
    def fake(self):
        scenario = rules(
            one("connect", over=1, reply=NO),
            one("noop", reply="421 bye"),
            one("idle", after="5m", reply="421 idle"),
            one("error", where={"command": "BOGUS"}, reply="421 error"),
        )
        with FakeFTP(scenario, clock=ManualClock()) as fake:
            yield fake

    def taken(self, fake: FakeFTP) -> bool:
        with Raw(fake) as raw:
            return raw.code() == "421"

    def test_held_while_it_is_idle(self, fake):
        with Raw(fake).hello():
            for _ in range(4):
                fake.clock.advance("1m")
                assert self.taken(fake)

    @pytest.mark.parametrize("times", range(20))
    @pytest.mark.parametrize(
        "leave",
        [
            lambda raw: raw.code("QUIT"), lambda raw: raw.send("QUIT\r\n"), Raw.close, Raw.reset, lambda raw: raw.sock.shutdown(1),
            lambda raw: raw.code("NOOP"), lambda raw: (raw.send("HALF"), raw.close()), lambda raw: raw.code("BOGUS") + raw.code(),
        ],
        ids=["quit", "unread", "close", "reset", "half-close", "421", "half", "error"],
    )  # fmt: skip
    def test_free_when_it_has_left(self, fake, leave, times):
        with Raw(fake).hello() as raw:
            leave(raw)
            assert not self.taken(fake)

    def test_free_when_it_was_idle_too_long(self, fake):
        with Raw(fake).hello():
            fake.clock.advance("5m")
            assert not self.taken(fake)

    def test_free_amid_a_transfer(self, fake):
        with Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR x")[0] == "1"
            data.send(b"1")
            assert self.taken(fake)
            raw.close()
            assert not self.taken(fake)

    def test_a_place_in_transfer(self):
        """It ends with the transfer, whichever way."""
        ends: dict[str, Callable[[Raw], object]] = {
            "226": lambda raw: (raw.held[-1].end(), raw.code()),
            "426": lambda raw: (raw.held[-1].reset(), raw.code()),
            "abor": lambda raw: (raw.code("ABOR"), raw.code()),
            "quit": lambda raw: raw.code("QUIT"),
            "close": lambda raw: raw.close(),
            "reset": lambda raw: raw.reset(),
        }
        scenario = rules(one("transfer", over=1, reply="450 busy"))
        for how, end in ends.items():
            with FakeFTP(scenario) as fake, Raw(fake).hello() as a, Raw(fake).hello() as b:
                a.hold()
                assert a.code("STOR x")[0] == "1"
                a.held[-1].send(b"1")
                fake.wait_for(lambda j, fake=fake: fake.files["x"] == b"1")
                assert b.put("STOR y", b"") == "450 busy", how
                end(a)
                fake.settle()
                assert b.put("STOR y", b"")[:3] == "226", how

    @pytest.mark.parametrize("line", ["RETR nowhere", "STOR no/such", "LIST nowhere", "RETR", "MLSD small.txt"])
    def test_no_place_is_left_by_a_transfer_that_fails(self, line):
        with FakeFTP(rules(one("transfer", over=1, reply="450 busy"))) as fake, Raw(fake).hello() as a, Raw(fake) as c:
            assert c.code() == "220"
            assert c.code(line)[0] == "5"  # nobody is logged in there
            assert a.code(line) == ("501" if line == "RETR" else "425")
            with a.data():
                assert a.code(line)[0] == "5"
            with Raw(fake).hello() as b:
                assert b.get("RETR small.txt")

    def test_active_and_refused(self):
        with FakeFTP(rules(one("transfer", over=1, reply="450 busy"))) as fake, Raw(fake).hello() as a:
            a.active().close()
            assert a.code("RETR small.txt") == "425"
            with Raw(fake).hello() as b:
                assert b.get("RETR small.txt")

    def test_what_was_stopped_at_a_byte(self):
        scenario = rules(one("transfer", over=1, reply="450 busy"), one("stor", after_bytes=3, reply="426 cut"))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as a, Raw(fake).hello() as b:
            a.hold()
            assert a.code("STOR x")[0] == "1"
            a.held[-1].send(b"12")
            assert b.code("RETR small.txt") == "450"
            a.held[-1].send(b"34")
            assert a.reply() == "426 cut"
            assert b.get("RETR small.txt")


class TestFailedLogins:
    @pytest.mark.parametrize("limit", [1, 3])
    def test_a_limit_of_them(self, limit):
        scenario = rules(
            one("error", where={"command": "PASS"}, per="connection", nth=limit, reply="421 Too many failures")
        )
        with FakeFTP(scenario, users={"ann": "x"}) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            for i in range(limit):
                assert raw.code("USER ann") == "331"
                raw.send("PASS wrong\r\n")
                assert raw.reply() == "530 Login incorrect."
                if i == limit - 1:
                    assert raw.until_end() == "421 Too many failures\r\n"
            with Raw(fake).hello("ann", "x"):
                pass

    def test_a_421_in_place_of_the_530(self):
        """The engine knows a bad password at `pass` only by its answer; a rule may as well refuse the third PASS."""
        scenario = rules(one("pass", per="connection", nth=3, reply="421 Enough"))
        with FakeFTP(scenario, users={"ann": "x"}) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            for _ in range(2):
                raw.say("USER ann")
                assert raw.code("PASS wrong") == "530"
            raw.say("USER ann")
            raw.send("PASS x\r\n")
            assert raw.until_end() == "421 Enough\r\n"


def _from(source: str, fake: FakeFTP) -> Raw:
    """A client with another address."""
    raw = Raw.__new__(Raw)
    raw.fake, raw.held, raw.buffer = fake, [], b""
    raw.sock = socket.create_connection((fake.host, fake.port), timeout=20, source_address=(source, 0))
    return raw


TIMES = 100


class TestLingering:
    """A client that writes twice before it reads sees the 421 and then the end: each time, of a hundred."""

    def clients(self, fake: FakeFTP, times: int) -> Iterator[list[Raw]]:
        """So many clients, some at a time, logged in and as secure as this fake lets them be."""
        context = trusting(fake) if fake.tls != "none" else None
        for _ in range(times // 20):
            raws = [Raw(fake, tls=context if fake.tls == "implicit" else None) for _ in range(20)]
            for raw in raws:
                assert raw.code() == "220"
                if fake.tls == "starttls":
                    raw.auth(context).login().protect(context)
                else:
                    raw.login().private = context
            try:
                yield raws
            finally:
                for raw in raws:
                    raw.close()

    def told(self, raws: list[Raw], last: Callable[[Raw], object]) -> Counter[str]:
        """What they read who have written twice since the fake has closed, upon their last words."""
        for raw in raws:
            port = raw.sock.getsockname()[1]
            last(raw)
            raw.fake.wait_for(lambda j, port=port: any(c.peer_port == port and c.ended_by for c in j.connections[-20:]))
            raw.send("TYPE I\r\n")
            raw.send("PASV\r\n")
        return Counter(raw.until_end() for raw in raws)

    def test_at_connect(self):
        with FakeFTP(rules(one("connect", reply=NO))) as fake:
            for _ in range(TIMES):
                with Raw(fake) as raw:
                    raw.send("USER ann\r\n")
                    raw.send("PASS x\r\n")
                    assert raw.until_end() == f"{NO}\r\n"

    @pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
    def test_at_a_command(self, tls):
        with FakeFTP(rules(one("pwd", reply=NO)), tls=tls) as fake:
            for raws in self.clients(fake, TIMES):
                assert self.told(raws, lambda raw: raw.send("PWD\r\n")) == {f"{NO}\r\n": len(raws)}

    @pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
    @pytest.mark.parametrize("how", ["fin", "reset", "drain"])
    def test_amid_an_upload(self, tls, how):
        """The client still sends when it is told; what it sends is lost, the 421 is not."""
        with FakeFTP(rules(one("stor", after_bytes=100_000, reply=NO, data=how)), tls=tls) as fake:

            def send(raw: Raw) -> None:
                raw.hold()
                assert raw.code("STOR x")[0] == "1"
                with contextlib.suppress(OSError):
                    raw.held[0].send(b"x" * 200_000)
                forget_errors()  # Python 3.14 would raise the error again where this thread reads the next connection

            for raws in self.clients(fake, TIMES):
                assert self.told(raws, send) == {f"{NO}\r\n": len(raws)}

    def test_by_a_phase_that_ends_while_everybody_talks(self):
        with FakeFTP(rules(then("down", one("enter", reply=NO)))) as fake:
            raws = [Raw(fake).hello() for _ in range(TIMES)]
            for raw in raws:
                raw.send("NOOP\r\n" * 20)
            fake.next_phase()
            for raw in raws:
                raw.send("NOOP\r\n" * 20)
                assert raw.until_end().endswith(f"{NO}\r\n")
                raw.close()


def test_a_download_in_tls_that_is_cut_is_no_whole_one_to_its_client():
    """An end without close_notify (RFC 8446 §6.1): this is how a client in TLS can tell."""
    with FakeFTP(rules(one("retr", after_bytes=5, reply="426 cut")), tls="implicit") as fake:
        with Raw(fake, tls=trusting(fake)).hello() as raw:
            raw.private = trusting(fake)
            with raw.data() as data:
                assert raw.code("RETR small.txt")[0] == "1"
                with pytest.raises(ssl.SSLEOFError):
                    data.rest()
                assert raw.reply() == "426 cut"


def test_two_ports_at_a_time_belong_to_two_clients():
    with FakeFTP() as fake, Raw(fake).hello() as a, Raw(fake).hello() as b:
        ports = port_of(a.say("PASV")), port_of(b.say("PASV"))
        with b.visit(ports[1]) as mine, a.visit(ports[0]) as yours:
            assert a.code("RETR small.txt")[0] == "1"
            assert b.code("NLST")[0] == "1"
            assert mine.rest() == b"big.bin\r\nsmall.txt\r\n"
            assert yours.rest() == b"A small file.\n"
