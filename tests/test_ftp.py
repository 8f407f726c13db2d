"""FakeFTP over real sockets when nothing is wrong: every verb, every way to open a data connection, users, files, TLS."""

from __future__ import annotations

import calendar
import ftplib
import io
import re
import socket
import ssl
import time

import pytest

from ftp_client import BIG, MODES, Raw, host_of, one, port_of, rules, trusting
from notnow import FakeFTP, ManualClock
from notnow.journal import CertificateRejected
from notnow.servers.ftp import session
from notnow.servers.ftp.connection import PLAIN_COMMANDS
from notnow.servers.ftp.files import filling
from notnow.servers.ftp.session import ALIASES
from raw_connection import holding

pytestmark = pytest.mark.usefixtures("each_loop")

modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def fake():
    with FakeFTP(clock=ManualClock()) as fake:
        yield fake


@pytest.fixture
def raw(fake):
    with Raw(fake).hello() as raw:
        yield raw


class TestVerbs:
    """Each verb does what RFC 959 and its successors say, and is in the journal under its name."""

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("PWD", '257 "/" is the current directory.'),
            ("CWD nowhere", "550 No such file or directory."),
            ("CWD small.txt", "550 Not a directory."),
            ("CDUP", '250 "/" is the current directory.'),
            ("MKD new", '257 "/new" directory created.'),
            ("MKD no/such", "550 No such file or directory."),
            ("MKD small.txt", "550 File exists."),
            ("RMD nowhere", "550 No such file or directory."),
            ("RMD /", "550 Can't remove root directory."),
            ("DELE small.txt", "250 File removed."),
            ("DELE nowhere", "550 No such file or directory."),
            ("RNFR nowhere", "550 No such file or directory."),
            ("RNTO anywhere", "503 Bad sequence of commands: use RNFR first."),
            ("TYPE A", "200 Type set to: ASCII."),
            ("TYPE L8", "200 Type set to: Binary."),
            ("TYPE E", '504 Unsupported type "E".'),
            ("SIZE big.bin", "213 3000000"),
            ("SIZE nowhere", "550 /nowhere is not retrievable."),
            ("REST 5", "350 Restarting at position 5."),
            ("TYPE A N", "200 Type set to: ASCII."),
            ("type a n", "200 Type set to: ASCII."),
            ("TYPE A T", '504 Unsupported type "A T".'),
            ("REST x", "501 Invalid parameter."),
            ("REST -1", "501 Invalid parameter."),
            ("SYST", "215 UNIX Type: L8"),
            ("NOOP", "200 I successfully did nothing'."),
            ("ABOR", "225 No transfer to abort."),
            ("ALLO 5", "202 No storage allocation necessary."),
            ("MODE S", "200 Transfer mode set to: S"),
            ("MODE B", "504 Unimplemented MODE type."),
            ("STRU F", "200 File transfer structure set to: F."),
            ("STRU R", "504 Unimplemented STRU type."),
            ("OPTS UTF8 ON", "200 Always in UTF8 mode."),
            ("OPTS MLST size;", "200 MLST OPTS size;"),
            ("OPTS NONE", '501 Unsupported command "NONE".'),
            ("SITE CHMOD 644 small.txt", "200 SITE CHMOD successful."),
            ("REIN", "220 Service ready for new user."),
            ("QUIT", "221 Goodbye."),
            ("QUIT now", "501 Syntax error: command does not accept arguments."),
            *((verb, "501 Syntax error: command needs an argument.") for verb in ("RETR", "STOR", "APPE")),
            ("STOU", "425 Use PORT or PASV first."),
            ("RETR small.txt", "425 Use PORT or PASV first."),
            ("BOGUS x", '500 Command "BOGUS" not understood.'),
            ("", '500 Command "" not understood.'),
            ("AUTH TLS", '500 Command "AUTH" not understood.'),
            ("noop", "200 I successfully did nothing'."),
        ],
    )
    def test_its_reply(self, raw, line, reply):
        assert raw.say(line) == reply

    @pytest.mark.parametrize("verb", sorted(v for v in PLAIN_COMMANDS if " " not in v))
    def test_each_is_a_moment_of_its_own_or_an_alias(self, fake, raw, verb):
        """Nothing that pyftpdlib knows goes by as unknown."""
        raw.say(verb)
        moment = ALIASES.get(verb, verb.lower())
        assert fake.journal.exchanges[-1].moment == moment
        assert fake.journal.count(moment) >= 1

    def test_cwd_and_back(self, raw):
        assert raw.code("MKD a") == "257"
        assert raw.say("CWD a") == '250 "/a" is the current directory.'
        assert raw.say("MKD b") == '257 "/a/b" directory created.'
        assert raw.say("CWD b") == '250 "/a/b" is the current directory.'
        assert raw.say("PWD") == '257 "/a/b" is the current directory.'
        assert raw.say("CDUP") == '250 "/a" is the current directory.'
        assert raw.say("CWD") == '250 "/" is the current directory.'

    def test_a_quote_in_a_name_is_doubled(self, raw):
        assert raw.say('MKD "x"') == '257 "/""x""" directory created.'

    @pytest.mark.parametrize(
        ("alias", "reply"),
        [
            ("XPWD", '257 "/d" is the current directory.'),
            ("XCUP", '250 "/" is the current directory.'),
            ("XCWD /d/e", '250 "/d/e" is the current directory.'),
            ("XMKD f", '257 "/d/f" directory created.'),
            ("XRMD e", "250 Directory removed."),
        ],
    )
    def test_aliases(self, fake, raw, alias, reply):
        for line in ("MKD d", "MKD d/e", "CWD d"):
            assert raw.code(line)[0] == "2"
        assert raw.say(alias) == reply
        assert fake.journal.exchanges[-1].moment == ALIASES[alias[:4]]

    def test_rmd_takes_what_is_empty(self, fake, raw):
        fake.files["a/b"] = b"x"
        assert raw.say("RMD a") == "550 Directory not empty."
        assert raw.code("DELE a/b") == "250"
        assert raw.say("RMD a") == "250 Directory removed."
        assert raw.code("CWD a") == "550"

    def test_rename(self, fake, raw):
        assert raw.code("RNFR small.txt") == "350"
        assert raw.say("RNTO other.txt") == "250 Renaming ok."
        assert list(fake.files) == ["big.bin", "other.txt"]
        assert raw.code("RNTO third.txt") == "503"

    def test_a_directory_does_not_go_into_itself(self, fake, raw):
        assert [raw.code(line) for line in ("MKD d", "MKD d/sub", "RNFR d", "RNTO d/sub/d")] == [
            "257",
            "257",
            "350",
            "550",
        ]
        assert fake.files.children("/d") == ["sub"]

    def test_rename_of_what_has_gone_meanwhile(self, fake, raw):
        assert raw.code("RNFR small.txt") == "350"
        del fake.files["small.txt"]
        assert raw.say("RNTO other.txt") == "550 No such file or directory."

    def test_size_in_ascii_is_refused(self, raw):
        assert raw.code("TYPE A") == "200"
        assert raw.say("SIZE small.txt") == "550 SIZE not allowed in ASCII mode."
        assert raw.say("REST 1") == "501 Resuming transfers not allowed in ASCII mode."

    def test_the_time_of_a_file_is_scenario_time(self, fake, raw):
        fake.clock.advance("1d")
        fake.files["new"] = b"x"
        seen = calendar.timegm(time.strptime(raw.say("MDTM new"), "213 %Y%m%d%H%M%S"))
        assert seen == int(fake.clock.epoch + 86_400)
        assert raw.say("MDTM nowhere") == "550 /nowhere is not retrievable"

    def test_mfmt(self, raw):
        assert raw.say("MFMT 20200102030405 small.txt") == "213 Modify=20200102030405; /small.txt."
        assert raw.say("MDTM small.txt") == "213 20200102030405"
        assert raw.say("MFMT 2020 small.txt").startswith("550 Invalid time format")
        assert raw.say("MFMT 20200102030405").startswith("501")
        assert raw.say("MFMT 20200102030405 nowhere") == "550 /nowhere is not retrievable"

    def test_feat_lists_what_works(self, raw):
        assert raw.say("FEAT").split("\n") == [
            "211-Features supported:",
            *(f" {f}" for f in ("EPRT", "EPSV", "MDTM", "MFMT")),
            " MLST type*;perm*;size*;modify*;unique*;unix.mode;unix.uid;unix.gid;",
            *(f" {f}" for f in ("REST STREAM", "SIZE", "TVFS", "UTF8")),
            "211 End FEAT.",
        ]

    def test_help(self, raw):
        assert {"RETR", "STOR", "PASV"} <= set(raw.say("HELP").split())
        assert raw.say("HELP RETR") == "214 Syntax: RETR <SP> file-name (retrieve a file)."
        assert "CHMOD" in raw.say("SITE HELP")

    def test_stat(self, raw):
        lines = raw.say("STAT").split("\n")
        assert lines[0] == "211-FTP server status:"
        assert " Logged in as: anonymous" in lines
        assert " TYPE: Binary; STRUcture: File; MODE: Stream" in lines
        assert lines[-1] == "211 End of status."

    def test_stat_of_a_path_lists_it_on_the_control_connection(self, raw):
        lines = raw.say("STAT /").split("\n")
        assert [line.split()[-1] for line in lines[1:-1]] == ["big.bin", "small.txt"]
        assert raw.say("STAT nowhere") == "550 No such file or directory."

    def test_mlst(self, raw):
        lines = raw.say("MLST small.txt").split("\n")
        assert re.fullmatch(r" modify=\d{14};perm=\w+;size=14;type=file;unique=\w+; /small.txt", lines[1])
        assert lines[-1] == "250 End MLST."
        assert raw.say("MLST nowhere") == "550 No such file or directory."

    def test_rein_takes_the_login_back(self, fake, raw):
        assert raw.code("REIN") == "220"
        assert raw.say("PWD") == "530 Log in with USER and PASS first."
        raw.login("ann")
        assert raw.code("PWD") == "257"

    def test_user_again_takes_the_login_back(self, raw):
        assert raw.say("USER ann") == "331 Previous account information was flushed, send password."
        assert raw.code("PWD") == "530"

    def test_quit_and_then_the_end(self, fake, raw):
        assert raw.code("QUIT") == "221"
        assert raw.ended
        raw.close()
        fake.wait_for(lambda j: j.connections[0].ended_by)
        assert fake.journal.connections[0].ended_by == "client"


class TestLists:
    @pytest.fixture
    def fake(self):
        with FakeFTP(files={"a.txt": b"1234", "sub/b.txt": b"", "sub/deep/": b""}) as fake:
            yield fake

    @pytest.mark.parametrize("line", ["LIST", "LIST -a", "LIST -al", "LIST /", "LIST -la /", "LIST ."])
    def test_list(self, raw, line):
        text = raw.get(line).decode()
        assert re.fullmatch(
            r"-rw-r--r--   1 ftp      ftp             4 \w{3} \d\d \d\d:\d\d a.txt\r\n"
            r"drwxr-xr-x   1 ftp      ftp             0 \w{3} \d\d \d\d:\d\d sub\r\n",
            text,
        )

    def test_the_year_of_what_is_older_than_half_a_year_of_scenario_time(self):
        with FakeFTP(clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            year = time.gmtime(fake.clock.epoch).tm_year
            fake.clock.advance("200d")
            fake.files["new"] = b""
            old, new = raw.get("LIST big.bin").decode(), raw.get("LIST new").decode()
            assert re.search(rf" \w{{3}} [ \d]\d  {year} big.bin\r\n$", old)
            assert re.search(r" \w{3} [ \d]\d \d\d:\d\d new\r\n$", new)

    def test_list_of_a_file(self, raw):
        assert raw.get("LIST a.txt").decode().endswith(" a.txt\r\n")

    @pytest.mark.parametrize(
        ("line", "names"),
        [
            ("NLST", "a.txt sub"), ("NLST sub", "b.txt deep"), ("NLST a.txt", "a.txt"), ("NLST sub/deep", ""),
            ("NLST -a", "a.txt sub"), ("NLST -l sub", "b.txt deep"),
        ],
    )  # fmt: skip
    def test_nlst(self, raw, line, names):
        assert raw.get(line).decode().split() == names.split()

    def test_mlsd(self, raw):
        lines = raw.get("MLSD").decode().splitlines()
        assert [line.split("; ")[-1] for line in lines] == ["a.txt", "sub"]
        assert "type=file" in lines[0]
        assert "size=4" in lines[0]
        assert "type=dir" in lines[1]

    @pytest.mark.parametrize(("line", "code"), [("LIST x", "550"), ("NLST x", "550"), ("MLSD x", "501")])
    def test_of_nothing(self, raw, line, code):
        with raw.data():
            assert raw.code(line) == code

    def test_of_a_thousand_files(self, fake, raw):
        for i in range(1000):
            fake.files[f"many/{i:04}"] = b""
        for verb in ("LIST", "NLST", "MLSD"):
            names = [line.rpartition(" ")[2] for line in raw.get(f"{verb} many").decode().splitlines()]
            assert names == [f"{i:04}" for i in range(1000)]


class TestTransfers:
    @modes
    def test_a_download(self, fake, raw, mode):
        assert raw.get("RETR big.bin", mode) == filling(BIG) == fake.files["big.bin"]

    @modes
    @pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
    def test_an_upload(self, fake, raw, mode, size):
        content = filling(size)
        assert raw.put("STOR new.bin", content, mode) == "226 Transfer complete."
        assert fake.files["new.bin"] == content
        assert fake.files.partial == ()

    @pytest.mark.parametrize("mode", ["PASV", "PORT"])
    def test_the_data_connection_may_come_before_the_command_and_after_it(self, raw, mode):
        with raw.data(mode) as data:  # for PASV it is there now
            assert raw.code("RETR small.txt")[0] == "1"
            assert data.rest() == b"A small file.\n"
            assert raw.code() == "226"
        port = port_of(raw.say("EPSV"))
        assert raw.say("RETR small.txt") == "150 File status okay. About to open data connection."
        with raw.visit(port) as data:
            assert data.rest() == b"A small file.\n"
            assert raw.code() == "226"

    def test_125_where_it_is_there_already(self, fake, raw):
        with raw.data() as data:
            fake.settle()
            assert raw.say("RETR small.txt") == "125 Data connection already open. Transfer starting."
            assert data.rest()
            assert raw.code() == "226"

    def test_rest_and_retr(self, fake, raw):
        assert raw.code("REST 2999990") == "350"
        assert raw.get("RETR big.bin") == filling(BIG)[-10:]
        assert raw.get("RETR big.bin") == filling(BIG)  # REST is for the next one only
        assert fake.journal.exchanges[-1].facts.offset == 0
        assert raw.code("REST 3000000") == "350"
        assert raw.get("RETR big.bin") == b""
        with raw.data():
            assert raw.code("REST 3000001") == "350"
            assert raw.say("RETR big.bin") == "554 REST position (3000001) > file size (3000000)"

    def test_rest_and_stor(self, fake, raw):
        assert raw.code("REST 8") == "350"
        assert raw.put("STOR small.txt", b"FILE, twice") == "226 Transfer complete."
        assert fake.files["small.txt"] == b"A small FILE, twice"
        assert raw.code("REST 2") == "350"
        assert raw.put("STOR small.txt", b"SMALL") == "226 Transfer complete."
        assert fake.files["small.txt"] == b"A SMALL FILE, twice"
        assert raw.code("REST 100") == "350"
        assert raw.put("STOR small.txt", b"x") == "554 REST position (100) > file size (19)"
        assert fake.files["small.txt"] == b"A SMALL FILE, twice"
        assert fake.files.partial == ()

    def test_rest_is_used_up_by_a_transfer_that_is_refused(self):
        """A client that is refused and begins anew gets all of a file, and does not write into the middle of another."""
        scenario = rules(one("retr", nth=2, reply="450 busy"), one("stor", first=1, reply="452 full"))
        with FakeFTP(scenario, files={"a": b"0123456789"}) as fake, Raw(fake).hello() as raw:
            for code in ("425", "450"):  # for want of a data connection, and by the rule
                assert raw.code("REST 5") == "350"
                assert raw.code("RETR a") == code
            assert raw.get("RETR a") == b"0123456789"
            for line, refused in (("STOR a", "452"), ("APPE a", "450")):
                assert raw.code("REST 5") == "350"
                assert raw.put(line, b"XX")[:3] == refused
            assert raw.put("STOR a", b"new") == "226 Transfer complete."
            assert fake.files["a"] == b"new"

    def test_a_listing_is_always_whole(self, fake, raw):
        assert raw.code("REST 5") == "350"
        assert len(raw.get("LIST").splitlines()) == 2
        assert fake.journal.exchanges[-1].facts.offset == 0

    def test_appe(self, fake, raw):
        assert raw.put("APPE small.txt", b"More.\n")[:3] == "226"
        assert raw.put("APPE new.txt", b"New.\n")[:3] == "226"
        assert (fake.files["small.txt"], fake.files["new.txt"]) == (b"A small file.\nMore.\n", b"New.\n")

    def test_stou(self, fake, raw):
        names = []
        for line in ("STOU", "STOU", "STOU a.txt", "STOU sub/x"):
            fake.files["sub/"] = b""
            with raw.data() as data:
                names.append(raw.say(line).partition("FILE: ")[2])
                data.send(line.encode())
                data.end()
                assert raw.code() == "226"
        assert names == ["ftpd.1", "ftpd.2", "a.txt.1", "x.1"]
        assert fake.files["ftpd.2"] == b"STOU"
        assert fake.files["sub/x.1"] == b"STOU sub/x"
        assert [x.facts.path for x in fake.journal if x.moment == "stou"][2:] == ["/a.txt.1", "/sub/x.1"]

    def test_ascii(self, fake, raw):
        assert raw.code("TYPE A") == "200"
        assert raw.put("STOR a", b"one\r\ntwo\nthree\r\r\nfour\r")[:3] == "226"
        assert fake.files["a"] == b"one\ntwo\nthree\r\nfour\r"
        fake.files["b"] = b"one\ntwo\r\nthree"
        assert raw.get("RETR b") == b"one\r\ntwo\r\nthree"

    @pytest.mark.parametrize("pieces", [1, 2, 3])
    def test_ascii_whatever_the_pieces(self, fake, raw, pieces):
        assert raw.code("TYPE A") == "200"
        content = b"a\r\nb\r\n\r\nc\r\r\n"
        with raw.data() as data:
            assert raw.code("STOR a")[0] == "1"
            for i in range(0, len(content), pieces):
                data.send(content[i : i + pieces])
                fake.settle()
            data.end()
            assert raw.code() == "226"
        assert fake.files["a"] == b"a\nb\n\nc\r\n"

    def test_what_the_journal_knows(self, fake, raw):
        raw.get("RETR big.bin")
        raw.put("STOR new", b"12345", "PORT")
        raw.get("LIST")
        retr, stor, list_ = (x for x in fake.journal if x.facts)
        common = {"mode": "passive", "offset": 0, "whole": True, "data": None}
        assert retr.as_dict()["facts"] == {
            **common,
            "path": "/big.bin",
            "direction": "download",
            "bytes": BIG,
            "size": BIG,
        }
        assert retr.reply.split("\n")[0][:3] in ("125", "150")
        assert retr.reply.split("\n")[1] == "226 Transfer complete."
        assert stor.as_dict()["facts"] == {
            **common, "path": "/new", "direction": "upload", "bytes": 5, "mode": "active", "stored": True,
            "sha256": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
        }  # fmt: skip
        assert list_.facts.direction == "listing"
        assert fake.journal.count("transfer") == 3

    def test_what_the_client_has_read_is_there_already(self, fake, raw):
        """Reading the files and the journal is a barrier."""
        for i in range(50):
            assert raw.put("STOR x", b"%d" % i)[:3] == "226"
            assert fake.files["x"] == b"%d" % i
            assert fake.journal.exchanges[-1].facts.whole
            assert fake.journal.count("stor") == i + 1

    def test_a_client_that_leaves_early(self, fake, raw):
        fake.files["huge.bin"] = "30MB"
        with raw.data() as data:
            assert raw.code("RETR huge.bin")[0] == "1"
            data.exactly(1000)
            data.reset()
            reply = raw.reply()
        facts = fake.journal.exchanges[-1].facts
        assert reply == f"426 Connection closed; transfer aborted after {facts.bytes} bytes."
        assert (facts.whole, facts.data) == (False, "fin")

    def test_an_upload_that_is_reset_stays_a_piece(self, fake, raw):
        with raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"12345")
            fake.wait_for(lambda j: fake.files["new"] == b"12345")
            data.reset()
            assert raw.reply() == "426 Connection closed; transfer aborted after 5 bytes."
        assert fake.files.partial == ("new",)
        assert raw.put("STOR new", b"123")[:3] == "226"
        assert fake.files.partial == ()

    def test_a_refused_connection_in_active_mode(self, raw):
        data = raw.active()
        data.close()
        assert raw.say("RETR small.txt") == "425 Can't open data connection."
        assert raw.get("RETR small.txt")

    def test_a_new_pasv_takes_the_place_of_the_last(self, raw):
        first = port_of(raw.say("PASV"))
        second = port_of(raw.say("PASV"))
        with pytest.raises(ConnectionRefusedError):
            raw.visit(first)
        with raw.visit(second):
            assert raw.code("NOOP") == "200"
        with raw.data("PORT"), raw.data("PASV") as data:
            assert raw.code("RETR small.txt")[0] == "1"
            assert data.rest() == b"A small file.\n"

    def test_epsv_all(self, raw):
        assert raw.code("EPSV ALL") == "220"
        for line in ("PASV", "PORT 127,0,0,1,10,10", "EPRT |1|127.0.0.1|9999|"):
            assert raw.code(line) == "501"
        assert raw.get("RETR small.txt", "EPSV")

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("EPSV 1", "229"),
            ("EPSV 2", "522"),
            ("EPSV 3", "501"),
            ("EPRT |2|::1|9999|", "522"),
            ("EPRT |3|x|9|", "501"),
        ],
    )
    def test_network_protocols(self, raw, line, code):
        assert raw.code(line) == code

    def test_the_address_of_pasv_is_the_one_that_was_connected_to(self):
        with FakeFTP(host="127.0.0.3") as fake, Raw(fake).hello() as raw:
            reply = raw.say("PASV")
            assert host_of(reply) == "127.0.0.3"
            assert reply.startswith("227 Entering Passive Mode (127,0,0,3,")
            assert raw.get("RETR small.txt")
        with FakeFTP(host="0.0.0.0") as fake:
            fake.host = "127.0.0.1"
            with Raw(fake).hello() as raw:
                assert host_of(raw.say("PASV")) == "127.0.0.1"


class TestIPv6:
    @pytest.fixture
    def fake(self):
        with FakeFTP(host="::1") as fake:
            yield fake

    @pytest.mark.parametrize("mode", ["EPSV", "EPRT"])
    def test_transfers(self, fake, raw, mode):
        assert raw.get("RETR small.txt", mode) == b"A small file.\n"
        assert raw.put("STOR x", b"123", mode)[:3] == "226"
        assert fake.url == f"ftp://[::1]:{fake.port}"

    def test_pasv_is_for_ipv4(self, raw):
        """It has no place for an address of IPv6 (RFC 2428 §1)."""
        assert raw.say("PASV") == "425 You cannot use PASV on IPv6 connections. Use EPSV instead."
        assert raw.code("EPSV 1") == "522"
        assert raw.code("EPSV 2") == "229"
        assert raw.code("PORT 127,0,0,1,10,10") == "501"

    def test_ftplib(self, fake):
        with ftplib.FTP() as client:
            client.connect(fake.host, fake.port)
            client.login()
            assert client.nlst() == ["big.bin", "small.txt"]
            client.set_pasv(False)
            client.storbinary("STOR x", io.BytesIO(b"123"))
            assert fake.files["x"] == b"123"


class TestPipelines:
    def test_commands_in_one_piece(self, fake):
        with Raw(fake) as raw:
            raw.send("USER ann\r\nPASS x\r\nTYPE I\r\nSIZE big.bin\r\nPWD\r\nQUIT\r\n")
            assert [reply[:3] for reply in raw.replies(7)] == ["220", "331", "230", "200", "213", "257", "221"]
            assert raw.ended

    def test_byte_by_byte_and_with_bare_line_feeds(self, fake):
        with Raw(fake) as raw:
            for byte in b"USER ann\nPASS x\r\nNOOP\n":
                raw.send(bytes([byte]))
                fake.settle()
            assert [reply[:3] for reply in raw.replies(4)] == ["220", "331", "230", "200"]

    def test_what_follows_a_transfer_waits_for_it(self, fake, raw):
        with raw.data() as data:
            raw.send("STOR new\r\nNOOP\r\nPWD\r\n")
            assert raw.code()[0] == "1"
            data.send(b"12345")
            fake.settle()
            assert raw.silent()
            data.end()
            assert [reply[:3] for reply in raw.replies(3)] == ["226", "200", "257"]

    @pytest.mark.parametrize("mode", ["PASV", "PORT"])
    @pytest.mark.parametrize(
        ("reply", "said", "heard"),
        [("226 Mine", "NOOP\r\n", ["226", "200"]), ("226 Mine", "QUIT\r\n", ["226", "221"]), ("421 Kept", "", ["421"])],
    )
    def test_what_comes_with_the_end_of_a_transfer_waits_for_its_reply(self, reply, said, heard, mode):
        """The end of an upload and what its client does next, to say something or to end its side, in one turn of the loop."""
        with FakeFTP(rules(one("stor", reply=reply, keep=True))) as fake, Raw(fake).hello() as raw:
            with raw.data(mode) as data:
                assert raw.code("STOR new")[0] == "1"
                data.send(b"12345")
                fake.settle()
                with holding(fake._bridge.loop):
                    data.end()
                    raw.send(said) if said else raw.sock.shutdown(socket.SHUT_WR)
            assert [raw.code() for _ in heard] == heard
            assert fake.files["new"] == b"12345"

    def test_one_transfer_after_the_other(self, fake, raw):
        with raw.data() as data:
            raw.send("STOR a\r\nSTAT\r\n")
            assert raw.code()[0] == "1"
            assert raw.code() == "211"
            data.send(b"1")
            data.end()
            assert raw.code() == "226"
        raw.send("EPSV\r\nRETR a\r\nNLST\r\n")
        with raw.visit(port_of(raw.reply())) as data:
            assert raw.code()[0] == "1"
            assert data.rest() == b"1"
        assert [reply[:3] for reply in raw.replies(2)] == ["226", "425"]


class TestDuringATransfer:
    """RFC 959 §4.1.3: what may be asked then is ABOR, STAT and QUIT, with or without the Telnet signals before them."""

    SIZE = 30_000_000  # more than the kernel takes off our hands

    @pytest.fixture
    def fake(self):
        with FakeFTP(files={"huge.bin": "30MB", "small.txt": "small"}) as fake:
            yield fake

    @pytest.fixture
    def data(self, raw):
        with raw.data() as data:
            assert raw.code("RETR huge.bin")[0] == "1"
            data.exactly(1000)
            yield data

    def test_stat(self, raw, data):
        assert any(re.fullmatch(r" Total bytes sent: [1-9]\d*", line) for line in raw.say("STAT").split("\n"))
        assert len(data.rest()) == self.SIZE - 1000
        assert raw.code() == "226"

    @pytest.mark.parametrize("signals", [b"", b"\xff\xf4\xff\xf2", b"\xff\xfb\x06", b"\xff\xf2"])
    def test_abor(self, fake, raw, data, signals):
        raw.send(signals + b"ABOR\r\n")
        assert raw.replies(2) == ["426 Transfer aborted via ABOR.", "226 ABOR command successful."]
        assert len(data.rest()) < self.SIZE - 1000
        retr = next(x for x in fake.journal if x.moment == "retr")
        assert (retr.facts.whole, retr.facts.data) == (False, "fin")
        assert raw.get("RETR small.txt")

    def test_abor_out_of_band(self, raw, data):
        """ftplib's `abort` sends it as urgent data."""
        raw.sock.send(b"ABOR\r\n", socket.MSG_OOB)
        assert [reply[:3] for reply in raw.replies(2)] == ["426", "226"]

    def test_quit_lets_it_end(self, fake, raw, data):
        assert raw.code("QUIT") == "221"
        assert len(data.rest()) == self.SIZE - 1000
        assert raw.until_end() == "226 Transfer complete.\r\n"

    def test_others_wait(self, fake, raw, data):
        raw.send("NOOP\r\n")
        fake.settle()
        assert raw.silent()
        data.rest()
        assert [reply[:3] for reply in raw.replies(2)] == ["226", "200"]

    def test_abor_of_an_upload(self, fake, raw):
        with raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(b"12345")
            fake.wait_for(lambda j: fake.files["new"] == b"12345")
            assert raw.say("ABOR").startswith("426")
            assert raw.code() == "226"
        assert fake.files.partial == ("new",)

    def test_abor_before_the_data_connection_has_come(self, fake, raw):
        port = port_of(raw.say("PASV"))
        assert raw.code("STOR new") == "150"
        assert [raw.say("ABOR"), raw.reply()] == ["426 Transfer aborted via ABOR.", "226 ABOR command successful."]
        with pytest.raises(ConnectionRefusedError):
            raw.visit(port)
        assert raw.get("RETR small.txt")
        assert raw.code("NOOP") == "200"

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("line", ["STOR new", "RETR huge.bin", "APPE new", "STOU"])
    @pytest.mark.parametrize("text", ["", one("any", delay="0s"), one("transfer", drip="0s")])
    def test_abor_before_the_first_byte(self, line, mode, text):
        """RFC 959 §5.4: the transfer gets its 426, and then ABOR its 226, however the replies are said."""
        with FakeFTP(rules(text), files={"huge.bin": "30MB"}) as fake, Raw(fake).hello() as raw:
            with raw.data(mode):
                assert raw.code(line)[0] == "1"
                raw.send("ABOR\r\n")
                assert [raw.code(), raw.code()] == ["426", "226"]
                assert raw.code("NOOP") == "200"
            asked = [x for x in fake.journal if x.facts]
            assert [(x.reply.split("\n")[-1][:3], x.facts.whole) for x in asked] == [("426", False)]
            assert not fake._bridge.engine._connections[next(iter(fake._bridge.sessions))].in_progress

    def test_abor_of_an_idle_data_connection(self, fake, raw):
        with raw.data() as data:
            fake.settle()
            assert raw.say("ABOR") == "225 ABOR command successful; data channel closed."
            assert data.rest() == b""

    def test_a_connection_that_is_made_while_a_rule_delays_the_command_is_open_already(self):
        with (
            FakeFTP(rules(one("retr", delay="10s")), files={"x": b"abc"}, clock=ManualClock()) as fake,
            Raw(fake).hello() as raw,
        ):
            port = port_of(raw.say("PASV"))
            raw.send("RETR x\r\n")
            fake.wait_for(lambda j: j.count("retr"))
            with raw.visit(port) as data:
                fake.settle()
                fake.clock.advance("10s")
                assert raw.reply().startswith("125")
                assert data.rest() == b"abc"


class TestHalfClosed:
    def test_who_ends_its_side_still_reads_the_replies(self, fake):
        with Raw(fake) as raw:
            raw.send("USER ann\r\nPASS x\r\nPWD\r\n")
            raw.sock.shutdown(1)
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["220 ", "331 ", "230 ", "257 "]

    def test_half_a_command_is_none(self, fake):
        with Raw(fake) as raw:
            raw.send("NOOP\r\nNOO")
            raw.sock.shutdown(1)
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["220 ", "200 "]
        fake.wait_for(lambda j: j.connections[0].ended_by)
        fake.wait_for(lambda j: not fake._bridge.sessions)

    def test_a_transfer_goes_on_to_its_end(self, fake, raw):
        with raw.data() as data:
            raw.send("RETR big.bin\r\nPWD\r\n")
            raw.sock.shutdown(1)
            assert raw.code()[0] == "1"
            assert len(data.rest()) == BIG
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["226 ", "257 "]

    @pytest.mark.parametrize("comes", [True, False])
    def test_a_data_connection_may_still_come_but_is_not_waited_for_long(self, fake, raw, comes, monkeypatch):
        monkeypatch.setattr(session, "LAST", 5.0 if comes else 0.05)
        port = port_of(raw.say("PASV"))
        raw.send("RETR small.txt\r\nPWD\r\n")
        raw.sock.shutdown(1)
        assert raw.code() == "150"
        fake.settle()
        if comes:
            with raw.visit(port) as data:
                assert data.rest() == b"A small file.\n"
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["226 ", "257 "]
        else:
            assert raw.until_end() == ""
        fake.wait_for(lambda j: not fake._bridge.sessions)
        assert fake._bridge.ports == {fake.port}

    def test_even_if_the_replies_take_their_time(self):
        with FakeFTP(rules(one("noop", delay="1h")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send("NOOP\r\nPWD\r\n")
            raw.sock.shutdown(1)
            fake.wait_for(lambda j: j.count("noop"))
            fake.settle()
            fake.clock.advance("1h")
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["200 ", "257 "]


class TestUsers:
    USERS = {"ann": "s3cret-päss", "bob": ""}

    @pytest.fixture
    def fake(self):
        with FakeFTP(users=self.USERS) as fake:
            yield fake

    def test_a_good_password(self, fake):
        with Raw(fake).hello("ann", "s3cret-päss") as raw:
            assert raw.code("PWD") == "257"
        with Raw(fake).hello("bob", "") as raw:
            assert raw.code("PWD") == "257"

    @pytest.mark.parametrize(
        ("user", "password"), [("ann", "wrong"), ("ann", ""), ("nobody", "x"), ("anonymous", "x"), ("ftp", "x")]
    )
    def test_no_login(self, fake, user, password):
        with Raw(fake) as raw:
            raw.reply()
            assert raw.code(f"USER {user}") == "331"
            assert raw.say(f"PASS {password}") == "530 Login incorrect."
            assert raw.say("PASS again") == "503 Login with USER first."
            assert raw.code("PWD") == "530"
            raw.login("ann", "s3cret-päss")

    def test_no_password_is_in_the_journal(self, fake):
        with Raw(fake) as raw:
            raw.reply()
            for line in (
                "USER ann",
                "PASS s3cret-päss",
                "PASS\ts3cret",
                "pass  s3cret",
                "XX PASS s3cret",
                "ACCT s3cret",
                "PASS s3cret\0",
            ):
                raw.say(line)
            raw.send("PASS s3cret" + "x" * 10_000 + "\r\n")
            raw.reply()
        text = "\n".join(map(str, fake.journal.as_dicts()))
        assert "s3cret" not in text.lower()
        assert "PASS ********" in text

    def test_a_password_that_comes_after_the_421_is_not_in_the_journal(self):
        for on in ("connect", "user"):
            with FakeFTP(rules(one(on, reply="421 no"))) as fake, Raw(fake) as raw:
                raw.send("USER ann\r\nPASS s3")
                fake.wait_for(lambda j: j.connections and j.connections[0].ended_by == "fake")
                raw.send("cret\r\nNOOP\r\n")
                assert raw.until_end().endswith("421 no\r\n")
                raw.close()
                fake.wait_for(lambda j: "NOOP" in j.connections[0].after)
                assert fake.journal.connections[0].after.endswith("PASS ********\r\nNOOP\r\n")

    @pytest.mark.parametrize("user", ["anonymous", "ftp", "Anonymous"])
    def test_anonymous_where_it_is_named(self, user):
        with FakeFTP(users={"anonymous": "", "ann": "x"}) as fake, Raw(fake).hello(user, "a@b") as raw:
            assert raw.code("PWD") == "257"

    def test_without_users_anybody(self):
        with FakeFTP() as fake, Raw(fake).hello("whoever", "whatever") as raw:
            assert raw.code("PWD") == "257"

    def test_without_a_user_no_password(self, fake):
        with Raw(fake) as raw:
            raw.reply()
            assert raw.say("PASS x") == "503 Login with USER first."
            raw.login("ann", "s3cret-päss")
            assert raw.say("PASS x") == "503 Already logged in."

    @pytest.mark.parametrize(
        "line", ["PWD", "PASV", "RETR small.txt", "STOR x", "LIST", "SIZE x", "OPTS UTF8", "STAT /"]
    )
    def test_what_needs_a_login(self, fake, line):
        with Raw(fake) as raw:
            raw.reply()
            assert raw.say(line) == "530 Log in with USER and PASS first."

    @pytest.mark.parametrize("line", ["NOOP", "FEAT", "SYST", "HELP", "STAT", "QUIT"])
    def test_what_does_not(self, fake, line):
        with Raw(fake) as raw:
            raw.reply()
            assert raw.code(line)[0] == "2"

    def test_users_of_a_scenario(self):
        head = '[server]\nusers = { ann = "x" }'
        with FakeFTP(rules(head=head)) as fake, Raw(fake) as raw:
            raw.reply()
            raw.say("USER ann")
            assert raw.code("PASS y") == "530"
            raw.login("ann", "x")


both = pytest.mark.parametrize("tls", ["starttls", "implicit"])


def secured(fake: FakeFTP, private: bool = True) -> Raw:
    """A client in TLS, logged in, whichever way this fake begins it."""
    context = trusting(fake)
    raw = Raw(fake, tls=context if fake.tls == "implicit" else None)
    if fake.tls == "implicit":
        raw.hello()
        raw.private = context
    else:
        assert raw.code() == "220"
        raw.auth(context).login()
        if private:
            raw.protect(context)
    return raw


class TestTLS:
    @both
    @modes
    def test_private_transfers(self, tls, mode):
        with FakeFTP(tls=tls) as fake, secured(fake) as raw:
            assert raw.get("RETR big.bin", mode) == filling(BIG)
            assert raw.put("STOR x", filling(1_000_000), mode) == "226 Transfer complete."
            assert fake.files["x"] == filling(1_000_000)
            assert raw.get("NLST", mode).split() == [b"big.bin", b"small.txt", b"x"]
            facts = fake.journal.connections[0].tls
            assert (facts.version, facts.sni, facts.certificate) == ("TLSv1.3", "localhost", "default")

    @both
    def test_an_older_version(self, tls):
        with FakeFTP(tls=tls) as fake:
            context = trusting(fake)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with Raw(fake, tls=context if tls == "implicit" else None) as raw:
                if tls == "starttls":
                    assert raw.code() == "220"
                    raw.auth(context).login().protect(context)
                else:
                    raw.hello().private = context
                assert raw.get("RETR big.bin") == filling(BIG)
                assert raw.put("STOR x", filling(BIG))[:3] == "226"
                assert fake.files["x"] == filling(BIG)

    def test_clear_transfers_after_auth(self):
        with FakeFTP(tls="starttls") as fake, secured(fake, private=False) as raw:
            assert raw.get("RETR small.txt") == b"A small file.\n"
            raw.protect(trusting(fake))
            assert raw.get("RETR small.txt") == b"A small file.\n"
            assert raw.code("PROT C") == "200"
            raw.private = None
            assert raw.get("RETR small.txt") == b"A small file.\n"

    def test_implicit_is_private_from_the_start_and_may_be_cleared(self):
        with FakeFTP(tls="implicit") as fake, secured(fake) as raw:
            assert raw.get("RETR small.txt") == b"A small file.\n"
            assert raw.code("PROT C") == "200"
            raw.private = None
            assert raw.get("RETR small.txt") == b"A small file.\n"

    @both
    def test_ftplib(self, tls):
        with FakeFTP(tls=tls) as fake:
            client = ftplib.FTP_TLS(context=trusting(fake))
            if tls == "implicit":
                client = _ImplicitFTP(context=trusting(fake))
            with client:
                client.connect(fake.host, fake.port)
                client.login("ann", "x")
                client.prot_p()
                client.storbinary("STOR x", io.BytesIO(b"123"))
                got: list[bytes] = []
                client.retrbinary("RETR big.bin", got.append)
                assert b"".join(got) == filling(BIG)
                assert client.nlst() == ["big.bin", "small.txt", "x"]
            assert fake.files["x"] == b"123"

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("PBSZ 0", "503 PBSZ needs a secure control connection."),
            ("PROT P", "503 PBSZ has to come before PROT."),
            ("AUTH KERBEROS", "504 Unknown security mechanism: use AUTH TLS."),
            ("AUTH", "501 Syntax error: command needs an argument."),
        ],
    )
    def test_out_of_order(self, line, reply):
        with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:
            raw.reply()
            assert raw.say(line) == reply

    @pytest.mark.parametrize("name", ["TLS", "tls", "SSL", "TLS-C", "TLS-P"])
    def test_names_of_tls(self, name):
        with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:
            raw.reply()
            assert raw.say(f"AUTH {name}").startswith("234")
            raw.wrap(trusting(fake))
            assert raw.code("AUTH TLS") == "503"
            assert raw.code("PROT P") == "503"
            assert raw.code("PBSZ 0") == "200"
            assert raw.code("PROT S") == "536"

    def test_feat_offers_it_where_it_can_be_had(self):
        with FakeFTP(tls="starttls") as fake, Raw(fake) as raw:
            raw.reply()
            assert {" AUTH TLS", " PBSZ", " PROT"} <= set(raw.say("FEAT").split("\n"))
        with FakeFTP() as fake, Raw(fake) as raw:
            raw.reply()
            assert "TLS" not in raw.say("FEAT")
            assert raw.code("AUTH TLS") == "500"

    def test_auth_takes_the_login_back(self):
        with FakeFTP(tls="starttls") as fake, Raw(fake).hello() as raw:
            raw.auth(trusting(fake))
            assert raw.code("PWD") == "530"

    def test_data_connections_show_the_certificate_of_the_control_connection(self):
        head = '[certificate.right]\nnames = ["localhost"]\n[certificate.late]\nnames = ["localhost"]\nexpired = true'
        with FakeFTP(rules(one("tls", certificate="late"), head=head), tls="starttls") as fake, Raw(fake) as raw:
            loose = ssl.create_default_context()
            loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
            assert raw.code() == "220"
            raw.auth(loose).login().protect(loose)
            with raw.data() as data:
                assert data.sock.getpeercert(True) == raw.sock.getpeercert(True)

    def test_a_data_handshake_that_fails_is_told(self):
        with FakeFTP(tls="starttls") as fake, secured(fake) as raw:
            raw.private = ssl.create_default_context()
            with raw.data() as data:
                assert raw.code("RETR small.txt")[0] == "1"
                with pytest.raises(ssl.SSLCertVerificationError):
                    data.rest()
                assert re.fullmatch(
                    r"425 Can't open data connection: TLS handshake failed \(.*UNKNOWN_CA.*\)\.", raw.reply()
                )
            raw.private = trusting(fake)
            assert raw.get("RETR small.txt")

    @both
    def test_a_handshake_of_the_control_connection_that_fails(self, tls):
        with FakeFTP(tls=tls) as fake:
            with Raw(fake) as raw, pytest.raises(ssl.SSLCertVerificationError):
                if tls == "starttls":
                    raw.reply()
                    raw.auth(ssl.create_default_context())
                else:
                    raw.wrap(ssl.create_default_context())
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert fake.journal.connections[0].failure == CertificateRejected("unknown_ca")
            with secured(fake) as raw:
                assert raw.get("RETR small.txt")


class _ImplicitFTP(ftplib.FTP_TLS):
    """ftplib has no implicit TLS; this is how people add it."""

    def __init__(self, *args, **given):
        super().__init__(*args, **given)
        self._sock = None

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, value):
        if value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname="localhost")
        self._sock = value
