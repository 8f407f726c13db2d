"""An FTP client that says anything in any order, beside a model of what a server must answer, remember and hold."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.machines import run

from ftp_client import MODES, Raw, trusting
from notnow import FakeFTP

USERS = {"ann": "word"}
PATHS = st.sampled_from(["a", "b", "d", "d/a", "/d/b", "..", "/", "../d/../a", "none/x"])
CONTENT = st.binary(max_size=40)


class Client(RuleBasedStateMachine):
    """A control connection. `files` and `folders` are what the server should hold, by their absolute paths."""

    fake: FakeFTP

    def __init__(self) -> None:
        super().__init__()
        self.fake.reset()
        self.files, self.folders = dict[str, bytes](), {"/"}
        self.connect()

    def connect(self) -> None:
        self.raw, self.heard = Raw(self.fake), list[int]()
        assert self.took(self.raw.reply()) == 220
        self.number = self.fake.journal.connections[-1].number
        self.tls = self.private = False
        self.begin()

    def begin(self) -> None:
        """Nobody is logged in."""
        self.user, self.inside, self.cwd, self.offset, self.renames = "", False, "/", 0, ""

    def took(self, reply: str) -> int:
        self.heard.append(int(reply[:3]))
        return self.heard[-1]

    def say(self, line: str) -> int:
        """Say a command; RNTO must follow RNFR at once (RFC 959 §4.1.3)."""
        self.renames = self.renames if line.startswith("RNTO") else ""
        return self.took(self.raw.say(line))

    def at(self, path: str) -> str:
        found = posixpath.normpath(posixpath.join(self.cwd, path))
        return "/" + found.lstrip("/")

    def judge(self, code: int, good: int, *faults: tuple[int, object]) -> bool:
        """True for the good reply. It is one of a fault of the client where there is one; without a login it is 530."""
        expected = [one for one, true in ((530, not self.inside), *faults) if true] or [good]
        assert code in expected, (code, expected)
        return code == good and expected == [good]

    def teardown(self) -> None:
        self.raw.close()

    # ---- the session -----------------------------------------------------------------------------

    @rule(right=st.booleans())
    def log_in(self, right: bool) -> None:
        if self.inside:
            return
        assert self.say("USER ann") == 331
        good = self.say(f"PASS {'word' if right else 'no'}")
        assert good == (230 if right else 530)
        self.inside = right

    @initialize(soon=st.booleans())
    def arrive(self, soon: bool) -> None:
        if soon:
            self.log_in(True)

    @rule()
    def start_again(self) -> None:
        if self.judge(self.say("REIN"), 220):
            self.begin()

    @rule()
    def quit(self) -> None:
        assert self.say("QUIT") == 221
        assert self.raw.until_end() == ""
        self.raw.close()
        self.agrees()
        self.connect()

    @precondition(lambda self: not self.tls)
    @rule()
    def start_tls(self) -> None:
        """It asks for a login again (RFC 4217 §10.1 leaves that to the server)."""
        assert self.say("AUTH TLS") == 234
        self.raw.wrap(trusting(self.fake))
        self.tls = True
        if self.inside:
            self.inside = self.say("PWD") == 257
        if not self.inside:
            self.begin()

    @precondition(lambda self: self.tls)
    @rule(private=st.booleans())
    def protect(self, private: bool) -> None:
        assert self.say("PBSZ 0") == 200
        assert self.say(f"PROT {'P' if private else 'C'}") == 200
        self.raw.private = trusting(self.fake) if private else None

    @rule(line=st.sampled_from(["NOOP", "SYST", "HELP", "FEAT"]))
    def ask(self, line: str) -> None:
        assert 200 <= self.say(line) < 300

    @rule(
        line=st.sampled_from(["WHAT", "", "STOR", "PORT 1,2", "TYPE Z", "REST x", "EPRT |9|x|1|", "MODE B", "OPTS x"])
    )
    def err(self, line: str) -> None:
        assert 500 <= self.say(line) < 560

    # ---- the tree --------------------------------------------------------------------------------

    @rule(path=PATHS)
    def change(self, path: str) -> None:
        if self.judge(self.say(f"CWD {path}"), 250, (550, self.at(path) not in self.folders)):
            self.cwd = self.at(path)

    @rule()
    def where(self) -> None:
        reply = self.raw.say("PWD")
        self.renames = ""
        if self.judge(self.took(reply), 257):
            assert reply.split('"')[1] == self.cwd

    @rule(path=PATHS)
    def make(self, path: str) -> None:
        where = self.at(path)
        there = where in self.folders or where in self.files or posixpath.dirname(where) not in self.folders
        if self.judge(self.say(f"MKD {path}"), 257, (550, there)):
            self.folders.add(where)

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        where = self.at(path)
        inside = any(posixpath.dirname(one) == where for one in {*self.files, *self.folders} - {"/"})
        if self.judge(self.say(f"RMD {path}"), 250, (550, where not in self.folders or inside or where == "/")):
            self.folders.discard(where)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        if self.judge(self.say(f"DELE {path}"), 250, (550, self.at(path) not in self.files)):
            del self.files[self.at(path)]

    @rule(path=PATHS)
    def measure(self, path: str) -> None:
        self.say("TYPE I")
        reply = self.raw.say(f"SIZE {path}")
        if self.judge(self.took(reply), 213, (550, self.at(path) not in self.files)):
            assert reply == f"213 {len(self.files[self.at(path)])}"

    # ---- transfers -------------------------------------------------------------------------------

    @rule(offset=st.integers(0, 30))
    def skip(self, offset: int) -> None:
        self.say("TYPE I")
        if self.judge(self.say(f"REST {offset}"), 350):
            self.offset = offset

    @precondition(lambda self: self.inside)
    @rule(path=PATHS, mode=st.sampled_from(MODES))
    def get(self, path: str, mode: str) -> None:
        offset, where = self.offset, self.at(path)
        with self.opened(mode) as data:
            code = self.begin_transfer(f"RETR {path}")
            self.offset = 0
            content = self.files.get(where, b"")
            if self.judge(
                code, 150, (550, where not in self.files), (554, offset > len(content)), (550, offset > len(content))
            ):
                assert data.rest() == content[offset:]
                assert self.took(self.raw.reply()) == 226

    @precondition(lambda self: self.inside)
    @rule(path=PATHS, mode=st.sampled_from(MODES), content=CONTENT, verb=st.sampled_from(["STOR", "APPE"]))
    def put(self, path: str, mode: str, content: bytes, verb: str) -> None:
        offset, where = self.offset, self.at(path)
        before = self.files.get(where, b"")
        wrong = where in self.folders or posixpath.dirname(where) not in self.folders
        beyond = offset > len(before)
        with self.opened(mode) as data:
            code = self.begin_transfer(f"{verb} {path}")
            self.offset = 0
            if verb == "APPE" and offset:  # pyftpdlib has no such thing
                assert code == (450 if self.inside else 530)
                return
            if self.judge(code, 150, (550, wrong), (554, beyond and verb == "STOR"), (550, beyond and verb == "STOR")):
                data.send(content)
                data.end()
                assert self.took(self.raw.reply()) == 226
                kept = before if verb == "APPE" else before[:offset]
                rest = before[offset + len(content) :] if verb == "STOR" and offset else b""
                self.files[where] = kept + content + rest

    def begin_transfer(self, line: str) -> int:
        """125 is for a data connection that is there already, and says the same as 150 (RFC 959 §4.2)."""
        code = self.say(line)
        return 150 if code == 125 else code

    def opened(self, mode: str):
        """A data connection; its port is asked for in a command of its own."""
        self.say("TYPE I")
        before = len(self.heard)
        data = self.raw.data(mode)
        self.heard.append({"PASV": 227, "EPSV": 229}.get(mode, 200))
        assert len(self.heard) == before + 1
        return data

    # ---- always ----------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        """The journal has what the client heard, and the server holds what the model holds."""
        (record,) = [one for one in self.fake.journal.connections if one.number == self.number]
        assert [code for x in record.exchanges for code in x.codes] == self.heard
        assert {f"/{name}": self.fake.files[name] for name in self.fake.files} == self.files


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeFTP]:
    with FakeFTP(tls="starttls", users=USERS, files={}) as fake:
        yield fake


def test_any_order_of_commands(fake: FakeFTP) -> None:
    Client.fake = fake
    run(Client, steps=40)
