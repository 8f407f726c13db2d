"""FTP with worker processes: one tree of files, whichever worker a client comes to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from conftest import LOOPS
from ftp_client import MODES, CarefulTransfer, Job, Raw, one, rules, then, trusting
from notnow import FakeFTP, ManualClock
from notnow.conduct.judging import judge
from notnow.conduct.reading.run import Run
from notnow.errors import FakeError
from notnow.servers.base.stopping import end_all
from notnow.servers.ftp.data import PIECE
from notnow.servers.ftp.files import filling
from workers_ftp import crew, on_each, place_of

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

WORKERS = 4
BIG = filling(700_000)  # enough for a system file, and for several pieces
GIVEN = {"in/a.txt": b"abc", "big.bin": "3MB"}


@pytest.fixture(scope="module", params=LOOPS)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTNOW_LOOP", request.param)
        with crew("ftp/healthy", WORKERS, speed=0, files=GIVEN) as fake:
            yield fake


@pytest.fixture
def ftp(shared: Any) -> Iterator[Any]:
    yield shared
    shared.play("ftp/healthy")
    shared.kick()
    shared.catch_up()
    shared.wait_for(lambda journal: all(c.ended_by for c in journal.connections), timeout=30)
    shared.reset()


@pytest.fixture
def clients(ftp: Any) -> Iterator[list[Raw]]:
    """A client on each worker."""
    with ExitStack() as stack:
        yield [stack.enter_context(raw).hello() for raw in on_each(ftp)]


def at_once(*work: Any) -> list[Any]:
    with ThreadPoolExecutor(len(work)) as pool:
        return [one.result() for one in [pool.submit(each) for each in work]]


# ---- one tree ------------------------------------------------------------------------------------


def test_what_one_client_stores_all_others_see_and_change(ftp: Any, clients: list[Raw]) -> None:
    a, b, c, d = clients
    assert a.put("STOR new.bin", BIG).startswith("226")
    assert b.say("SIZE new.bin") == f"213 {len(BIG)}"
    assert [raw.get("RETR new.bin") for raw in clients] == [BIG] * 4
    assert c.put("APPE new.bin", b"tail").startswith("226")
    assert d.get("RETR new.bin") == BIG + b"tail"
    assert a.code("RNFR new.bin") == "350"
    assert a.code("RNTO in/moved.bin") == "250"
    assert b.code("SIZE new.bin") == "550"
    assert b.get("NLST in") == b"a.txt\r\nmoved.bin\r\n"
    assert ftp.files["in/moved.bin"] == BIG + b"tail"
    assert c.code("DELE in/moved.bin") == "250"
    assert d.get("NLST in") == b"a.txt\r\n"
    assert sorted(ftp.files) == ["big.bin", "in/a.txt"]


def test_directories_modes_and_times_are_those_of_all(clients: list[Raw]) -> None:
    a, b, c, d = clients
    assert a.code("MKD dir") == "257"
    assert b.code("MKD dir") == "550"
    assert b.code("CWD dir") == "250"
    assert b.put("STOR x", b"12").startswith("226")
    assert c.code("RMD dir") == "550"
    assert c.code("MFMT 20200102030405 dir/x") == "213"
    assert c.code("SITE CHMOD 600 dir/x") == "200"
    assert d.say("MDTM dir/x") == "213 20200102030405"
    assert d.get("LIST dir").startswith(b"-rw-------   1 ftp      ftp             2 Jan  2 ")
    facts = {raw.get("MLSD /dir") for raw in clients}  # `unique` as well
    assert len(facts) == 1
    assert b"modify=20200102030405;" in facts.pop()
    assert a.get("LIST d*/x").endswith(b"dir/x\r\n")
    assert "dir/x" in a.say("STAT d*/x")
    assert (d.code("DELE dir/x"), d.code("RMD dir"), a.code("CWD dir")) == ("250", "250", "550")


def test_an_error_reads_as_in_one_process(clients: list[Raw]) -> None:
    lines = (
        "RETR none",
        "DELE in",
        "CWD in/a.txt",
        "MKD in",
        "RMD in",
        "RNFR none",
        "SIZE in",
        "MFMT 20200101000000 no",
    )
    with FakeFTP(files=GIVEN) as alone, Raw(alone).hello() as raw:
        for line in lines:
            for each in (raw, clients[0]):
                if line.startswith("RETR"):
                    each.hold()
            assert raw.say(line) == clients[0].say(line), line


def test_a_listing_of_thousands_is_whole(clients: list[Raw]) -> None:
    a, b = clients[:2]
    names = [f"{n:04}" for n in range(450)]
    for name in names:
        assert a.code(f"MKD in/{name}") == "257"
    assert [line.split()[-1].decode() for line in b.get("LIST in").splitlines()] == [*names, "a.txt"]
    assert len(b.get("MLSD in").splitlines()) == len(names) + 1


def test_an_upload_can_be_read_while_it_is_under_way(ftp: Any, clients: list[Raw]) -> None:
    a, b = clients[:2]
    with a.data() as data:
        assert a.say("STOR slow.bin")[0] == "1"
        data.send(BIG)
        ftp.wait_for(lambda _: ftp.files.size("slow.bin") == len(BIG), timeout=30)
        assert b.get("RETR slow.bin") == BIG
        assert ftp.files.partial == ("slow.bin",)
        data.end()
        assert a.code() == "226"
    assert ftp.files.partial == ()


def test_unique_names_are_unique_over_all_workers(ftp: Any, clients: list[Raw]) -> None:
    def store(raw: Raw) -> list[str]:
        return [raw.put("STOU", b"x") for _ in range(10)]

    at_once(*(lambda raw=raw: store(raw) for raw in clients))
    assert sorted(ftp.files) == ["big.bin", *sorted(f"ftpd.{n}" for n in range(1, 41)), "in/a.txt"]


def test_only_one_of_those_who_make_rename_or_delete_the_same_succeeds(clients: list[Raw]) -> None:
    for n in range(10):
        told = at_once(*(lambda raw=raw, n=n: raw.code(f"MKD d{n}") for raw in clients))
        assert sorted(told) == ["257", "550", "550", "550"]
        for raw in clients:
            assert raw.code(f"RNFR d{n}") == "350"
        told = at_once(*(lambda raw=raw, n=n: raw.code(f"RNTO e{n}") for raw in clients))
        assert sorted(told) == ["250", "550", "550", "550"]
        told = at_once(*(lambda raw=raw, n=n: raw.code(f"RMD e{n}") for raw in clients))
        assert sorted(told) == ["250", "550", "550", "550"]


def test_clients_that_do_anything_at_once_break_nothing(ftp: Any, clients: list[Raw]) -> None:
    """Our own code would fail where one worker is surprised by what another has done; then the fake does not stop in peace."""

    def wild(raw: Raw, seed: int) -> Counter[str]:
        chance, seen = random.Random(seed), Counter[str]()
        for _ in range(60):
            name = f"in/{chance.randrange(4)}"
            match chance.choice(("put", "get", "list", "line")):
                case "put":
                    seen[
                        raw.put(f"{chance.choice(('STOR', 'APPE'))} {name}", b"x" * chance.randrange(100_000))[:3]
                    ] += 1
                case "get" | "list" as what:
                    with raw.data() as data:
                        verb = "RETR" if what == "get" else chance.choice(("LIST", "MLSD", "NLST"))
                        code = raw.code(f"{verb} {name if what == 'get' else 'in'}")
                        if code[0] == "1":
                            data.rest()
                            code = raw.code()
                        seen[code] += 1
                case _:
                    verb = chance.choice(("DELE", "SIZE", "MDTM", "MFMT 20200101000000", "MLST", "LIST in/*", "MKD"))
                    if verb != "LIST in/*":
                        seen[raw.code(f"{verb} {name}")] += 1
        return seen

    at_once(*(lambda raw=raw, n=n: wild(raw, n) for n, raw in enumerate(clients)))
    assert ftp._bridge.errors == []
    assert ftp.files.used == sum(ftp.files.size(name) for name in ftp.files)
    assert [raw.code("NOOP") for raw in clients] == ["200"] * WORKERS


def test_of_uploads_without_room_nothing_stays_open(ftp: Any, clients: list[Raw]) -> None:
    ftp.play(rules(head=f"[server]\nquota = {ftp.files.used + len(BIG) // 2}"))
    before = set(ftp._bridge._open_files._open)
    for _ in range(3):
        assert clients[0].put("STOR x", BIG).startswith("552")
    assert clients[0].code("DELE x") == "250"
    assert clients[0].code("SIZE x") == "550"  # a question, with which it says what it does not know any more
    assert before >= set(ftp._bridge._open_files._open)


def test_the_quota_is_one_and_exact(ftp: Any, clients: list[Raw]) -> None:
    room = 1_000_000
    ftp.play(rules(head=f"[server]\nquota = {ftp.files.used + room}"))
    given = ftp.files.used
    told = at_once(*(lambda raw=raw, n=n: raw.put(f"STOR {n}", bytes(400_000))[:3] for n, raw in enumerate(clients)))
    assert "552" in told
    assert room - PIECE < ftp.files.used - given <= room
    for n in range(WORKERS):
        assert hashlib.sha256(ftp.files[str(n)]).hexdigest() == ftp.files.sha256(str(n))
    for n, raw in enumerate(reversed(clients)):
        assert raw.code(f"DELE {n}") == "250"
    assert ftp.files.used == given
    assert clients[0].put("STOR all", bytes(room)).startswith("226")
    assert clients[1].put("STOR more", b"x").startswith("552")


def test_another_scenario_lays_its_files_and_a_reset_takes_all_back(ftp: Any, clients: list[Raw]) -> None:
    a, b = clients[:2]
    assert a.put("STOR mine", b"1").startswith("226")
    ftp.reset()
    assert b.get("NLST").split() == [b"big.bin", b"in"]
    ftp.files["from-the-test"] = b"2"
    assert a.get("RETR from-the-test") == b"2"


# ---- transfers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_way_to_a_data_connection_leads_to_the_same_worker(clients: list[Raw], mode: str) -> None:
    for raw in clients:
        assert raw.put("STOR x", BIG, mode).startswith("226")
    for raw in clients:
        assert raw.get("RETR x", mode) == BIG
        assert hashlib.sha256(raw.get("RETR big.bin", mode)).digest() == hashlib.sha256(filling(3_000_000)).digest()


def test_a_transfer_goes_on_at_another_worker(ftp: Any, clients: list[Raw]) -> None:
    a, b, c = clients[:3]
    ftp.play(rules(one("stor", times=1, after_bytes=300_000, data="reset", reply="426 cut")))
    with a.data() as data:
        a.send("STOR x\r\n")
        assert a.code() in ("125", "150")
        with pytest.raises(OSError):
            for _ in range(100):
                data.send(BIG)
        assert a.code() == "426"
    assert (ftp.files.size("x"), ftp.files.partial) == (300_000, ("x",))
    assert b.say("SIZE x") == "213 300000"
    assert b.code("REST 300000") == "350"
    assert b.put("STOR x", BIG[300_000:]).startswith("226")
    ftp.catch_up()
    ftp.assert_stored("x", BIG)
    ftp.assert_no_partial_files()
    assert c.code(f"REST {len(BIG) - 5}") == "350"
    assert c.get("RETR x") == BIG[-5:]
    assert c.code(f"REST {len(BIG) + 1}") == "350"
    c.hold()
    assert c.code("RETR x") == "554"


@pytest.mark.parametrize("room", [100, 50])
def test_an_upload_over_the_end_of_a_big_file_is_that_of_one_process(ftp: Any, room: int) -> None:
    with FakeFTP(files={"x": BIG}) as alone:
        ftp.files["x"] = BIG
        for fake in (ftp, alone):
            fake.play(rules(head=f"[server]\nquota = {fake.files.used + room}"))
            with Raw(fake).hello() as raw:
                assert raw.code(f"REST {len(BIG) - 100}") == "350"
                assert raw.put("STOR x", b"y" * 200)[:3] == ("226" if room == 100 else "552")
        assert ftp.files["x"] == alone.files["x"]
        assert ftp.files.partial == alone.files.partial


@pytest.mark.parametrize("name", ["ftp/kept-then-421", "ftp/accepted-then-421"])
def test_an_upload_that_is_kept_or_taken_back_is_so_for_all(ftp: Any, name: str) -> None:
    ftp.play(name)
    with FakeFTP(name, files=GIVEN) as alone:
        for fake in (ftp, alone):
            with Raw(fake).hello() as raw:
                raw.put("STOR x", BIG)
        assert dict(ftp.files) == dict(alone.files)
        assert ftp.files.partial == alone.files.partial


def test_tls_on_both_connections(ftp: Any) -> None:
    scenario = rules(head="[server]\ntls = 'starttls'")
    ftp.play(scenario)
    context = trusting(ftp)
    with ExitStack() as stack:
        raws = [stack.enter_context(raw) for raw in on_each(ftp)]
        for raw in raws:
            assert raw.code() == "220"
            raw.auth(context).protect(context).login()
        for raw in raws:
            assert raw.put("STOR x", BIG).startswith("226")
        assert [raw.get("RETR x") for raw in raws] == [BIG] * WORKERS


def test_what_workers_have_closed_is_forgotten(ftp: Any, clients: list[Raw]) -> None:
    """Or the process with the files would keep every replaced upload."""
    opened = ftp._bridge._open_files._open
    before = len(opened)  # what other tests have left behind goes when a worker collects its garbage
    for way in ({}, {"after_bytes": 300_000, "data": "reset", "reply": "426 cut"}, {"reply": "250 done"}):
        ftp.play(rules(*([one("transfer", **way)] if way else [])))
        for raw in clients:
            for mode in ("PASV", "PORT"):
                for line in ("STOR x", "RETR x", "RETR big.bin"):
                    with raw.data(mode) as data:
                        assert raw.say(line)[0] == "1"
                        with contextlib.suppress(OSError):
                            data.send(BIG) if line == "STOR x" else data.rest()
                    assert raw.reply()[0] in "24"
    for raw in clients:
        assert raw.code("SIZE x") == "213"  # a question takes with it what is closed by then
    assert len(opened) <= before + len(clients), opened


# ---- counts --------------------------------------------------------------------------------------


def test_a_cap_on_connections_admits_exactly_that_many(ftp: Any) -> None:
    ftp.play("ftp/too-many-users", cap=5)
    with ExitStack() as stack:
        raws = at_once(*[lambda: Raw(ftp)] * 25)
        for raw in raws:
            stack.enter_context(raw)
        assert Counter(raw.code() for raw in raws) == {"220": 5, "421": 20}


def test_a_cap_on_sessions_of_a_user_admits_exactly_that_many(ftp: Any) -> None:
    ftp.play("ftp/too-many-per-user", cap=3)
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(ftp)) for _ in range(12)]
        assert {raw.code() for raw in raws} == {"220"}
        assert {raw.code("USER ann") for raw in raws} == {"331"}
        told = at_once(*(lambda raw=raw: raw.code("PASS x") for raw in raws))
        assert Counter(told) == {"230": 3, "421": 9}


def test_a_cap_on_transfers_counts_those_of_all_workers(ftp: Any) -> None:
    ftp.play("ftp/too-many-transfers", cap=2)
    with ExitStack() as stack:
        raws = [stack.enter_context(raw).hello() for raw in on_each(ftp)]
        data = [raw.hold() for raw in raws]
        told = at_once(*(lambda raw=raw, n=n: raw.code(f"STOR {n}") for n, raw in enumerate(raws)))
        assert sorted(code[0] for code in told) == ["1", "1", "4", "4"]
        inside = [n for n, code in enumerate(told) if code[0] == "1"]
        for n in inside:
            data[n].end()
            assert raws[n].code() == "226"
        raw = next(raw for n, raw in enumerate(raws) if n not in inside)
        assert raw.put("STOR again", b"x").startswith("226")


# ---- judged as one -------------------------------------------------------------------------------


def seen(fake: Any) -> tuple[list[Any], list[str]]:
    """What the journal has of each transfer, and the verdicts on it."""
    fake.catch_up()
    replies = [
        x.codes[-1:] if x.codes[-1:] > (199,) else () for x in fake.journal.since_play() if x.transfer
    ]  # 125 or 150
    transfers = [(x.moment, x.transfer) for x in fake.journal.since_play() if x.transfer]
    return [*zip(transfers, replies, strict=True)], [
        f"{v.rule.id} {v.finding.outcome} {v.finding.why}" for v in judge(Run([fake.journal]))
    ]


@pytest.mark.parametrize("name", ["ftp/killed-mid-upload", "ftp/killed-mid-download", "ftp/overload"])
def test_the_journal_and_the_verdict_are_those_of_one_process(ftp: Any, name: str) -> None:
    ftp.reset()
    ftp.play(name)
    with FakeFTP(name, files=GIVEN, seed=ftp.seed, clock=ManualClock()) as alone:
        for fake in (ftp, alone):
            jobs = [Job("STOR", "new.bin", filling(1_500_000)), Job("RETR", "big.bin"), Job("RETR", "new.bin")]
            assert CarefulTransfer(fake, fake.clock.advance).transfer(*jobs)
            fake.wait_for(lambda journal: all(c.ended_by for c in journal.connections), timeout=30)
            fake.assert_stored("new.bin", filling(1_500_000))
        assert seen(ftp) == seen(alone)
        assert dict(ftp.files) == dict(alone.files)


# ---- a worker that dies --------------------------------------------------------------------------


def test_a_worker_that_is_killed_amid_an_upload_leaves_a_partial_file_and_an_error() -> None:
    lost = threading.Event()
    fake = crew("ftp/healthy", 2, files=GIVEN).start()
    fake.on_loss(lost.set)
    with ExitStack() as stack:
        victim, other = (stack.enter_context(raw).hello() for raw in on_each(fake))
        data = victim.hold()
        assert victim.say("STOR cut.bin")[0] == "1"
        data.send(BIG)
        fake.wait_for(lambda _: "cut.bin" in fake.files and fake.files.size("cut.bin") == len(BIG), timeout=30)
        place = place_of(fake, victim)
        worker = next(worker for worker in fake._bridge.crew.living if worker.place == place)
        os.kill(worker.process.pid, signal.SIGKILL)
        assert lost.wait(30)
        assert (fake.files["cut.bin"], fake.files.partial) == (BIG, ("cut.bin",))
        assert other.get("RETR cut.bin") == BIG
        with pytest.raises(FakeError, match=r"was killed by signal 9 .* so notnow stops; partial files: /cut\.bin$"):
            fake.stop()


def test_a_worker_that_ends_a_phase_when_another_has_stopped_does_not_wait_for_it() -> None:
    """Its answer waits until no worker can act in the old phase any more, and one that has stopped cannot."""
    fake = crew(rules(then("two"), phase="until = { noop = 1 }"), 2).start()
    with ExitStack() as stack:
        late, other = (stack.enter_context(raw).hello() for raw in on_each(fake))
        worker = next(worker for worker in fake._bridge.crew.living if worker.place == place_of(fake, late))
        os.kill(worker.process.pid, signal.SIGSTOP)
        late.sock.sendall(b"NOOP\r\n")
        stopping = threading.Thread(target=end_all, args=[[fake]])
        stopping.start()
        assert other.code() == "421"
        assert other.sock.recv(1) == b""
        os.kill(worker.process.pid, signal.SIGCONT)
        stopping.join()
    assert fake.phase == "two"
    fake._bridge.raise_errors()


@pytest.mark.parametrize(
    ("name", "value"),
    [("wire.Passage.send", lambda *_: False), ("open_files.MOST_MOVED", 0)],
    ids=["no passage", "too many files"],
)
def test_without_descriptors_all_bytes_go_through_the_line(
    ftp: Any, clients: list[Raw], monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(f"notnow.servers.workers.{name}", value)
    assert clients[0].put("STOR x", BIG).startswith("226")
    assert clients[1].put("APPE x", BIG).startswith("226")
    assert clients[2].get("RETR x") == ftp.files["x"] == BIG + BIG
