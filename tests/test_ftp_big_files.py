"""Files of hundreds of megabytes: FakeFTP makes them up as it sends them."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from ftp_client import Raw, one, rules, trusting
from notnow import FakeFTP, ScenarioError
from notnow.servers.ftp.files import filling

MEMORY = 48 * 1024 * 1024  # bytes that fake and client may take together


def begin(fake: FakeFTP, tls: bool) -> Raw:
    raw = Raw(fake)
    if not tls:
        return raw.hello()
    assert raw.code() == "220"
    return raw.auth(trusting(fake)).login().protect(trusting(fake))


@pytest.mark.parametrize("given", [True, False], ids=["files=", "[server] files"])
def test_a_whole_download_takes_little_memory(given):
    size = 269_000_000  # what Random.randbytes cannot make at once
    scenario = rules(head="" if given else '[server]\nfiles = { iso = "269MB" }')
    with FakeFTP(scenario, files={"iso": "269MB"} if given else None) as fake, Raw(fake).hello() as raw:
        assert raw.say("SIZE iso") == f"213 {size}"
        assert raw.code("MDTM iso") == "213"
        tracemalloc.start()
        try:
            with raw.data() as data:
                assert raw.code("RETR iso")[0] == "1"
                got = hashlib.sha256()
                while piece := data.sock.recv(1 << 20):
                    got.update(piece)
            assert raw.code() == "226"
            fake.assert_stored("iso", sha256=got.hexdigest(), size=size)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        fake.assert_delivered(times=1)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 268_435_455, 699_999_000, 700_000_000])
def test_any_offset(tls, offset):
    with FakeFTP(files={"iso": "700MB"}, tls="starttls") as fake, begin(fake, tls) as raw, raw.data() as data:
        assert raw.code(f"REST {offset}") == "350"
        assert raw.code("RETR iso")[0] == "1"
        count = min(100_000, 700_000_000 - offset)
        assert data.exactly(count) == filling(700_000_000, offset, count)
        if offset == 699_999_000:
            assert (data.end() if tls else data.rest()) in (None, b"")
            assert raw.code() == "226"


def test_an_offset_beyond_the_end():
    with FakeFTP(files={"iso": "700MB"}) as fake, Raw(fake).hello() as raw, raw.data():
        assert raw.code("REST 700000001") == "350"
        assert raw.code("RETR iso") == "554"


def test_a_cut_at_a_byte_far_out():
    n = 150_000_001
    with FakeFTP(rules(one("retr", after_bytes=n, reply="426 cut")), files={"iso": "300MB"}) as fake:
        with Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("RETR iso")[0] == "1"
            got = 0
            while piece := data.sock.recv(1 << 20):
                got += len(piece)
            assert (got, raw.reply()) == (n, "426 cut")


def test_an_upload_over_a_big_file_is_told_what_there_is_room_for():
    with FakeFTP(files={"iso": "700MB"}) as fake, Raw(fake).hello() as raw:
        assert raw.put("APPE iso", b"x").startswith("552")
        assert fake.files.size("iso") == 700_000_000
        assert raw.put("STOR iso", b"x").startswith("226")  # it replaces it
        assert fake.files["iso"] == b"x"


def test_a_reset_amid_a_big_download_ends_it():
    with FakeFTP(files={"iso": "700MB"}, tls="starttls") as fake, begin(fake, tls=True) as raw:
        with raw.data() as data:
            assert raw.code("RETR iso")[0] == "1"
            data.exactly(1_000_000)
            data.reset()
        assert raw.code() == "426"
        assert raw.code("NOOP") == "200"


@pytest.mark.parametrize("size", ["1.001GB", "99999GB"])
def test_what_is_too_big_is_told_when_it_is_loaded(size):
    with pytest.raises(ScenarioError, match=f"allowed: .*up to 1GB, not iso = '{size}'"):
        rules(head=f'[server]\nfiles = {{ iso = "{size}" }}')
    with pytest.raises(ScenarioError, match=f"'iso' is {size}; allowed: up to 1GB"):
        FakeFTP(files={"iso": size})
