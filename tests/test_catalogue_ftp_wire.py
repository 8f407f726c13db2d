"""Scenarios for FTP over real sockets, where it takes more than that a careful client comes through."""

from __future__ import annotations

import pytest

from ftp_client import CarefulTransfer, Job, Raw
from notnow import FakeFTP, ManualClock
from notnow.servers.ftp.files import filling

CONTENT = filling(1_500_000)


@pytest.mark.parametrize("verb", ["STOR", "APPE", "STOU"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("data", ["fin", "reset", "drain"])
def test_whoever_comes_back_completes_an_upload_that_was_cut(verb, keep, data):
    with FakeFTP("ftp/killed-mid-upload", clock=ManualClock(), keep=keep, data=data) as ftp:
        client = CarefulTransfer(ftp, ftp.clock.advance)
        job = Job(verb, "" if verb == "STOU" else "new.bin", CONTENT)
        assert client.transfer(job)
        assert ftp.files[job.name] == CONTENT
        assert not ftp.files.partial
        first, second = (x.transfer for x in ftp.journal if x.transfer and x.transfer.direction == "upload")
        assert (first.bytes, first.whole, first.data) == (1_000_000, False, data)
        assert second.bytes == (500_000 if keep else 1_500_000)


def test_who_does_not_ask_what_is_there_doubles_an_appe():
    with FakeFTP("ftp/kept-then-421", clock=ManualClock()) as ftp:
        for reply in ("421", "226"):
            with Raw(ftp).hello() as raw:
                assert raw.put("APPE log.txt", b"a line\n").startswith(reply)
        assert ftp.files["log.txt"] == b"a line\na line\n"
        for expects in (ftp.assert_expected, ftp.assert_no_duplicates):
            with pytest.raises(AssertionError, match="upload of /log.txt was stored twice"):
                expects()


def test_who_goes_over_a_quota_leaves_a_piece():
    with FakeFTP("ftp/quota-exceeded") as ftp, Raw(ftp).hello() as raw:
        assert raw.put("STOR new.bin", CONTENT).startswith("552")
        assert ftp.files.partial == ("new.bin",)
        assert raw.code("DELE new.bin") == "250"
        assert raw.put("STOR new.bin", CONTENT[:1_000_000]).startswith("226")


def test_a_passive_port_that_has_its_connection_does_not_time_out():
    with FakeFTP("ftp/passive-timeout", clock=ManualClock()) as ftp, Raw(ftp).hello() as raw:
        with raw.data() as data:
            ftp.settle()
            ftp.clock.advance("5m")
            assert raw.say("RETR small.txt")[0] == "1"
            assert data.rest() == b"A small file.\n"
            assert raw.reply().startswith("226")


@pytest.mark.parametrize("instead", ["PORT", "ABOR"])
def test_a_passive_port_that_is_given_up_does_not_time_out(instead):
    with FakeFTP("ftp/passive-timeout", clock=ManualClock()) as ftp, Raw(ftp).hello() as raw:
        assert raw.say("PASV").startswith("227")
        assert raw.say("ABOR" if instead == "ABOR" else "PORT 127,0,0,1,200,10").startswith("2")
        ftp.clock.advance("5m")
        assert raw.code("NOOP") == "200"


def test_a_passive_port_that_has_timed_out_is_closed():
    with FakeFTP("ftp/passive-timeout", clock=ManualClock()) as ftp, Raw(ftp).hello() as raw:
        assert raw.say("PASV").startswith("227")
        ftp.clock.advance("30s")
        assert raw.reply() == "421 Passive data channel timed out."
        assert raw.say("RETR small.txt").startswith("425")  # it has to ask for another one
        assert raw.get("RETR small.txt") == b"A small file.\n"


def test_who_believes_a_wrong_passive_reply_gets_nowhere():
    for what, host in (("private", "10,0,0,1"), ("elsewhere", "192,0,2,1"), ("port", "127,0,0,1,0,9")):
        with FakeFTP("ftp/wrong-passive-reply", what=what) as ftp, Raw(ftp).hello() as raw:
            assert f"({host}" in raw.say("PASV")
            assert raw.get("RETR small.txt", "EPSV") == b"A small file.\n"
