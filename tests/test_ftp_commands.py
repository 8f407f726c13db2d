"""What a healthy FakeFTP answers to the commands about files: modes, patterns, and the end of a user's session."""

from __future__ import annotations

import re

import pytest

from ftp_client import Raw, one, rules
from notnow import FakeFTP
from notnow.servers.base.dialogue import LONG, as_sent


@pytest.fixture
def fake():
    files = {
        "a.txt": b"x",
        "b.csv": b"y",
        ".hidden.csv": b"",
        "d/c.csv": b"z",
        "d/e.txt": b"",
        "f/c.csv": b"",
        "[x].csv": b"",
    }
    with FakeFTP(files=files, users={"ann": "secret"}) as fake:
        yield fake


@pytest.fixture
def raw(fake):
    with Raw(fake).hello("ann", "secret") as raw:
        yield raw


def listed(raw: Raw, line: str) -> list[str]:
    return raw.get(line).decode().splitlines()


class TestModes:
    def mode(self, raw: Raw, name: str) -> str:
        """The mode of a file, as each kind of listing has it: they are the same."""
        assert raw.say("OPTS MLST Type;UNIX.mode;").startswith("200 ")
        directory, _, base = name.rpartition("/")
        mlst = re.search(r"(?m)^ type=\w+;unix\.mode=(\d+); /", raw.say(f"MLST {name}"))
        mlsd = next(line for line in listed(raw, f"MLSD /{directory}") if line.endswith(f" {base}"))
        line = next(line for line in listed(raw, f"LIST /{directory}") if line.endswith(f" {base}"))
        assert mlst
        assert f"unix.mode={mlst[1]};" in mlsd
        assert line[1:10] == bits(int(mlst[1], 8))
        return mlst[1]

    def test_of_files_and_directories(self, raw):
        assert self.mode(raw, "a.txt") == "0644"
        assert self.mode(raw, "d") == "0755"

    @pytest.mark.parametrize("name", ["a.txt", "d", "d/c.csv"])
    @pytest.mark.parametrize(("said", "shown"), [("600", "0600"), ("0700", "0700"), ("000", "0000"), ("777", "0777")])
    def test_chmod_changes_what_listings_show(self, raw, name, said, shown):
        assert raw.code(f"SITE CHMOD {said} {name}") == "200"
        assert self.mode(raw, name) == shown
        assert raw.code(f"SITE CHMOD 750 {name}") == "200"
        assert self.mode(raw, name) == "0750"

    def test_it_stays_with_the_file(self, fake, raw):
        assert raw.code("SITE CHMOD 600 a.txt") == raw.code("SITE CHMOD 700 d") == "200"
        assert raw.put("STOR a.txt", b"new").startswith("226")
        assert raw.put("APPE a.txt", b"more").startswith("226")
        for old, new in (("a.txt", "z.txt"), ("d", "y")):
            assert raw.code(f"RNFR {old}") == "350"
            assert raw.code(f"RNTO {new}") == "250"
        assert (self.mode(raw, "z.txt"), self.mode(raw, "y")) == ("0600", "0700")
        assert raw.put("STOR a.txt", b"another").startswith("226")
        assert raw.code("MKD d") == "257"
        assert (self.mode(raw, "a.txt"), self.mode(raw, "d")) == ("0644", "0755")

    @pytest.mark.parametrize("name", ["no-such", "no/such", "a.txt/x"])
    def test_of_what_is_not_there(self, raw, name):
        assert raw.say(f"SITE CHMOD 600 {name}") == "550 No such file or directory."

    @pytest.mark.parametrize("mode", ["6", "888", "rwx", "66666", "-77"])
    def test_what_is_no_mode(self, raw, mode):
        assert raw.code(f"SITE CHMOD {mode} a.txt") == "501"
        assert self.mode(raw, "a.txt") == "0644"


def bits(mode: int) -> str:
    return "".join(c if mode >> (8 - i) & 1 else "-" for i, c in enumerate("rwxrwxrwx"))


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*.csv", ["[x].csv", "b.csv"]),
            ("?.csv", ["b.csv"]),
            ("[ab].*", ["a.txt", "b.csv"]),
            (".*", [".hidden.csv"]),
            ("d/*.csv", ["d/c.csv"]),
            ("/d/*", ["d/c.csv", "d/e.txt"]),
            ("*/c.csv", ["d/c.csv", "f/c.csv"]),
            ("*/*.txt", ["d/e.txt"]),
            ("*.nothing", []),
            ("no-such/*", []),
            ("[x].csv", ["[x].csv"]),  # a file of this name is no pattern
            ("*", ["[x].csv", "a.txt", "b.csv", "d", "f"]),
            ("*" * 254 + "v", ["[x].csv", "b.csv"]),
            ("*" * 255 + "v", []),  # longer than any name
            ("*" + "[" * 4_000, []),  # it would take long to compile
        ],
    )
    @pytest.mark.parametrize("flags", ["", "-l ", "-la ", "-a -l "])
    def test_what_they_match(self, raw, pattern, names, flags):
        assert listed(raw, f"NLST {flags}{pattern}") == names
        lines = [line.rsplit(" ", 1)[-1] for line in listed(raw, f"LIST {flags}{pattern}")]
        in_one = "*" not in pattern.rpartition("/")[0]
        assert lines == [name.rpartition("/")[2] if in_one else name for name in names]
        if "*" in pattern:
            answer = raw.say(f"STAT {pattern}")
            assert answer.startswith("213-")
            assert len(answer.split("\n")) == len(names) + 2

    def test_from_a_directory_of_their_own(self, raw):
        assert raw.code("CWD d") == "250"
        assert listed(raw, "NLST *.csv") == ["c.csv"]
        assert listed(raw, "NLST /*.txt") == ["/a.txt"]
        assert raw.get(f"RETR {listed(raw, 'NLST /*.txt')[0]}") == b"x"

    def test_nobody_is_shown_them_before_a_login(self, fake):
        with Raw(fake) as raw:
            assert raw.code() == "220"
            assert raw.code("STAT *") == "530"
            assert raw.code("LIST *") == "530"


class TestReinitialize:
    """REIN, and USER of another one, free what `login` took (RFC 959 §4.1.1)."""

    @pytest.mark.parametrize(
        ("on", "ends"),
        [("login", "REIN"), ("login", "USER bob"), ("pass", "REIN"), ("pass", "USER bob"), ("user", "REIN")],
    )
    @pytest.mark.parametrize("per", ["server", "user"])
    def test_frees_the_place_of_a_user(self, on, ends, per):
        with FakeFTP(rules(one(on, over=1, per=per, reply="421 full"))) as fake:
            with Raw(fake).hello("ann") as a:
                with Raw(fake) as b:
                    b.reply()
                    b.send("USER ann\r\nPASS x\r\n")
                    assert b.until_end().endswith("421 full\r\n")
                assert a.code(ends)[0] in "23"
                with Raw(fake).hello("ann") as c:
                    assert c.code("PWD") == "257"
                    assert a.code("NOOP") == "200"

    def test_the_place_of_the_connection_stays(self):
        with FakeFTP(rules(one("connect", over=1, reply="421 full"))) as fake, Raw(fake).hello() as a:
            assert a.code("REIN") == "220"
            with Raw(fake) as b:
                assert b.until_end() == "421 full\r\n"

    def test_who_logs_in_again_takes_one_again(self):
        with FakeFTP(rules(one("login", over=1, reply="421 full"))) as fake, Raw(fake).hello() as a:
            assert a.code("REIN") == "220"
            a.login()
            with Raw(fake) as b:
                b.reply()
                b.send("USER x\r\nPASS x\r\n")
                assert b.until_end().endswith("421 full\r\n")
            assert a.code("REIN") == "220"
            fake.play(fake.scenario)  # who has no user takes no place in what is played next, either
            Raw(fake).hello().close()


def test_a_long_listing_in_a_reply_that_a_rule_delays_is_not_kept():
    files = {f"{'n' * 100}{i}": b"" for i in range(LONG // 100)}
    with FakeFTP(rules(one("stat", delay="1ms")), files=files) as fake, Raw(fake).hello() as raw:
        kept = as_sent.cache_info()
        assert len(raw.say("STAT *")) > LONG
        assert as_sent.cache_info() == kept
