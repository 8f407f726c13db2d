"""ftp/by-name: every word of its vocabulary, and nothing else, is met by the name that says it."""

from __future__ import annotations

import pytest

from ftp_client import Raw
from notnow import FakeFTP, ManualClock

SCENARIO = "ftp/by-name"
TEN = b"0123456789"
STAGES = {
    "retr": "RETR", "stor": "STOR", "appe": "APPE", "list": "LIST", "cwd": "CWD", "mkd": "MKD", "rmd": "RMD", "dele": "DELE",
    "rnfr": "RNFR", "rnto": "RNTO", "size": "SIZE", "mdtm": "MDTM",
}  # fmt: skip
MOVES = ("retr", "stor", "appe", "list")  # over a data connection


def refusals(stage: str) -> list[tuple[str, str]]:
    """The words of a stage that refuse, with what they have the fake say."""
    codes, once = ("421", "450", "550"), ("421", "450")
    if stage == "data":
        codes = once = ("421", "425", "426")
    elif stage == "complete":
        codes, once = ("421", "426", "451", "552"), ("421", "426", "451")
    words = [(code, code) for code in codes] + [(f"{code}-once", code) for code in once]
    return [*words, ("close", ""), ("reset", "RST")]


def say(raw: Raw, stage: str, path: str) -> str:
    """Come to a stage with this path; the code of what it is told then, "" for a close, "RST" for a reset."""
    try:
        if stage in MOVES or stage in ("data", "complete"):
            verb = STAGES.get(stage, "RETR" if stage == "data" else "STOR")
            with raw.data() as data:
                code = raw.code(f"{verb} {path}")
                if code[0] == "1":
                    if verb in ("STOR", "APPE"):
                        data.send(TEN)
                        data.close()
                    code = raw.code()
                return code
        if stage == "rnto":
            raw.put("STOR from", TEN)
            assert raw.code("RNFR from") == "350"
        return raw.code(f"{STAGES[stage]} {path}")
    except EOFError:
        return ""
    except ConnectionResetError:
        return "RST"


def healthy(fake: FakeFTP, stage: str, path: str) -> None:
    """What it takes for this to be answered well."""
    if stage in ("retr", "data", "dele", "size", "mdtm", "rnfr"):
        fake.files[path] = TEN
    elif stage in ("cwd", "rmd", "list"):
        fake.files[path + "/"] = b""


@pytest.mark.parametrize("stage", [*STAGES, "data", "complete"])
@pytest.mark.parametrize("more", ["", "-17.bin"])
def test_a_name_is_refused_as_it_says(stage, more):
    for word, told in refusals(stage):
        path = f"{word}-at-{stage}{more}"
        with FakeFTP(SCENARIO) as fake:
            healthy(fake, stage, path)
            with Raw(fake).hello() as raw:
                assert say(raw, stage, path) == told, path
                if told == "421":
                    assert raw.until_end() == ""
            with Raw(fake).hello() as raw:
                again = say(raw, stage, path)
                assert (again[:1] in ("2", "3")) if "-once" in word else again == told, (path, again)
            if "-once" in word:
                assert fake.journal.count("connect") == 2
            elif stage == "complete" and word != "close" and word != "reset":
                assert path not in fake.files


@pytest.mark.parametrize("word", ["slow", "stall"])
@pytest.mark.parametrize("stage", [*STAGES, "data", "complete"])
def test_late_or_never(stage, word):
    path = f"{word}-at-{stage}"
    with FakeFTP(SCENARIO, clock=ManualClock(), slow="20s") as fake, Raw(fake).hello() as raw, raw.data() as data:
        healthy(fake, stage, path)
        fake.files["from"] = TEN
        assert raw.code("RNFR from") == "350"
        raw.send(f"{STAGES.get(stage, 'STOR')} {path}\r\n")
        if stage in ("data", "complete"):
            assert raw.code()[0] == "1"
        if stage == "complete":
            data.close()
        fake.wait_for(lambda j: any(x.rule for x in j))
        fake.settle()
        assert raw.silent()
        fake.clock.advance("20s")
        fake.settle()
        if word == "stall":
            assert raw.silent()
        else:
            data.close()
            assert raw.code()[0] in "123"


@pytest.mark.parametrize("size", [0, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("once", ["", "once-"])
@pytest.mark.parametrize("verb", ["RETR", "STOR", "APPE"])
def test_a_cut(size, once, verb):
    name = f"cut-{once}at-{size}.bin"
    with FakeFTP(SCENARIO) as fake:
        if verb != "RETR":
            del fake.files[name]
        for whole in (False, bool(once)):
            fake.files.pop(name, None) if verb == "APPE" else None
            with Raw(fake).hello() as raw, raw.data() as data:
                assert raw.code(f"{verb} {name}")[0] == "1"
                if verb == "RETR":
                    assert len(data.rest()) == (3_000_000 if whole else size)
                else:
                    try:
                        data.send(b"x" * 3_000_000)
                    except OSError:
                        assert not whole
                    data.close()
                assert raw.code() == ("226" if whole else "421")
                if verb != "RETR":
                    assert fake.files.size(name) == (3_000_000 if whole else size)


@pytest.mark.parametrize("verb", ["STOR", "APPE"])
@pytest.mark.parametrize(
    ("word", "told"), [("kept-", "421"), ("kept-then-421", "421"), ("kept-then-426", "426"), ("kept-then-close", "")]
)
def test_what_is_kept_whatever_is_said(verb, word, told):
    with FakeFTP(SCENARIO) as fake, Raw(fake).hello() as raw:
        try:
            assert raw.put(f"{verb} {word}x.bin", TEN)[:3] == told
        except EOFError:
            assert not told
        fake.assert_stored(f"{word}x.bin", TEN)


def test_accepted_and_then_421():
    with FakeFTP(SCENARIO) as fake, Raw(fake).hello() as raw:
        assert raw.put("STOR accepted-then-421.bin", TEN).startswith("226")
        assert raw.until_end().startswith("421 ")
        fake.assert_stored("accepted-then-421.bin", TEN)


@pytest.mark.parametrize(
    ("user", "told"), [("421-at-login", "421"), ("530-at-login-ann", "530"), ("close-at-login", "")]
)
def test_at_login_it_is_the_user(user, told):
    with FakeFTP(SCENARIO) as fake, Raw(fake) as raw:
        assert raw.code() == "220"
        assert raw.code(f"USER {user}") == "331"
        raw.send("PASS x\r\n")
        try:
            assert raw.code() == told
        except EOFError:
            assert not told


@pytest.mark.parametrize("name", ["a.bin", "x421-at-stor", "421-at-retr", "cut-at-10001", "cut-at-1", "421"])
def test_every_other_name_is_healthy(name):
    with FakeFTP(SCENARIO) as fake, Raw(fake).hello() as raw:
        assert raw.put(f"STOR {name}", TEN).startswith("226")
        assert not [x for x in fake.journal if x.rule]


def test_for_downloads_there_is_a_file_for_each_word():
    """What is refused once, late, or after some bytes can be fetched: it is there."""
    with FakeFTP(SCENARIO) as fake:
        for stage in ("retr", "data", "complete"):
            words = [word for word, _ in refusals(stage) if (stage, word) != ("complete", "552")]
            assert {f"{word}-at-{stage}.bin" for word in [*words, "slow", "stall"]} <= set(fake.files)
