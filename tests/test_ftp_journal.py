"""What the journal of an FTP fake tells a judge: arrivals, paths of commands, and how each transfer ended."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from ftp_client import Raw, one, rules, trusting
from notnow import FakeFTP, ManualClock
from notnow.journal import CertificateRejected, Exchange, HandshakeAbandoned, Target, Transfer

pytestmark = pytest.mark.usefixtures("each_loop")


def said(fake: FakeFTP, moment: str) -> Exchange:
    (found,) = (x for x in fake.journal if x.moment == moment)
    return found


def moved(fake: FakeFTP, moment: str) -> Transfer:
    """The transfer, once its data connection has ended."""
    fake.wait_for(lambda _: said(fake, moment).transfer.cut_by or said(fake, moment).transfer.whole)
    transfer = said(fake, moment).transfer
    assert transfer is not None
    return transfer


class TestArrivals:
    def test_a_command_while_a_reply_is_late(self):
        with FakeFTP(rules(one("size", delay="3s")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send(b"SIZE small.txt\r\n")
            fake.wait_for(lambda j: j.count("size"))
            fake.clock.advance(1)
            raw.send(b"MDTM small.txt\r\n")
            fake.wait_for(lambda _: next(iter(fake._bridge.sessions.values())).arrivals.next(16))
            fake.clock.advance(2)
            assert [raw.reply()[:3] for _ in range(2)] == ["213", "213"]
            late, early = said(fake, "size"), said(fake, "mdtm")
            assert (late.answered_at, early.arrived_at, early.at) == (3, 1, 3)
            assert late.index < early.arrived_index < early.index

    def test_commands_in_one_piece(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            raw.send(b"NOOP\r\nSYST\r\n")
            raw.reply(), raw.reply()
            assert said(fake, "syst").arrived_index == said(fake, "noop").index
            assert said(fake, "noop").arrival is None

    def test_what_a_client_says_to_a_fake_that_stalls(self):
        with FakeFTP(rules(one("size", stall=True))) as fake, Raw(fake).hello() as raw:
            raw.send(b"SIZE small.txt\r\nPASS secret\r\n")
            fake.wait_for(lambda j: j.connections[0].unread)
            assert fake.journal.connections[0].unread == "PASS ********\r\n"


class TestPaths:
    def test_commands_name_the_paths_that_they_are_about(self):
        with FakeFTP(files={"in/a.tmp": b"1"}) as fake, Raw(fake).hello() as raw:
            for line in ("CWD in", "SIZE a.tmp", "MDTM ./a.tmp", "RNFR a.tmp", "RNTO ../b", "DELE /b", "NOOP"):
                raw.code(line)
            assert [x.target for x in fake.journal if x.moment in ("cwd", "size", "mdtm", "rnfr", "rnto", "dele", "noop")] == [
                Target("/in"), Target("/in/a.tmp"), Target("/in/a.tmp"), Target("/in/a.tmp"), Target("/b", "/in/a.tmp"),
                Target("/b"), None,
            ]  # fmt: skip

    def test_a_command_between_the_two_of_a_renaming(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            for line in ("RNFR small.txt", "NOOP", "RNTO b"):
                raw.code(line)
            assert said(fake, "rnto").target == Target("/b")

    def test_the_new_name_is_known_though_it_is_refused(self):
        with FakeFTP(rules(one("rnto", reply="450 no"))) as fake, Raw(fake).hello() as raw:
            raw.code("RNFR small.txt")
            assert raw.code("RNTO b") == "450"
            assert said(fake, "rnto").target == Target("/b", "/small.txt")


class TestWhoEndsATransfer:
    @pytest.mark.parametrize("how", ["close", "abor", "leave"])
    def test_a_client_that_wants_no_more(self, how):
        with FakeFTP(files={"big.bin": "30MB"}) as fake:  # more than the buffers of the kernel hold
            with Raw(fake).hello() as raw, raw.data() as data:
                raw.code("REST 100")
                assert raw.code("RETR big.bin")[0] == "1"
                data.exactly(1000)
                if how == "close":
                    data.close()
                    assert raw.reply()[:3] == "426"
                elif how == "abor":
                    assert raw.code("ABOR") == "426"
            transfer = moved(fake, "retr")
            assert (transfer.cut_by, transfer.whole, transfer.size, transfer.offset) == (
                "client",
                False,
                30_000_000,
                100,
            )

    @pytest.mark.parametrize("fault", [{"data": "reset", "reply": "426 cut"}, {"close": True}])
    def test_a_fake_that_cuts(self, fault):
        with FakeFTP(rules(one("retr", after_bytes=1000, **fault))) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                raw.send(b"RETR big.bin\r\n")
                with contextlib.suppress(ConnectionResetError):
                    data.rest()
            transfer = moved(fake, "retr")
            assert (transfer.cut_by, transfer.bytes, transfer.size) == ("fake", 1000, 3_000_000)
            if "close" in fault:
                assert said(fake, "retr").told.endswith(", then a cut after 1000 bytes")

    def test_a_whole_transfer_was_cut_by_nobody(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            raw.get("RETR small.txt")
            assert (moved(fake, "retr").cut_by, moved(fake, "retr").whole) == (None, True)

    def test_an_upload_that_the_client_resets(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert raw.code("STOR x")[0] == "1"
                data.send(b"12345")
                data.reset()
            assert raw.reply()[:3] == "426"
            assert moved(fake, "stor").cut_by == "client"


class TestTLSOfDataConnections:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_certificate_that_the_client_rejects(self, version):
        with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:
            raw.reply()
            raw.auth(trusting(fake)).login()
            distrusting = ssl.create_default_context()
            distrusting.minimum_version = distrusting.maximum_version = version
            with raw.protect(distrusting).data() as data:
                raw.send(b"RETR small.txt\r\n")
                with pytest.raises(ssl.SSLCertVerificationError):
                    data.exactly(1)
            raw.reply()
            fake.wait_for(lambda _: said(fake, "retr").transfer.failure)
            assert said(fake, "retr").transfer.failure == CertificateRejected("unknown_ca")
            assert said(fake, "retr").transfer.cut_by == "client"

    def test_a_client_that_leaves_in_the_handshake(self):
        with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:
            raw.reply()
            raw.auth(trusting(fake)).login()
            with raw.protect(trusting(fake)).data():
                raw.send(b"RETR small.txt\r\n")
                raw.reply()
            fake.wait_for(lambda _: said(fake, "retr").transfer.failure)
            assert said(fake, "retr").transfer.failure == HandshakeAbandoned(done=False)
