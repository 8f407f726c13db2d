"""Generated FTP clients."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import strategies as st
from tests.truth.client import CONDITIONS, HABITS, LASTS, Client, Habits, Task, document
from tests.truth.properties import Accusation  # noqa: TC002
from tests.truth.truth import Truth  # noqa: TC002
from tests.truth.wire import Line, Reply, Wire

from notnow.engine.actions import Action, EndData, Watch
from notnow.engine.events import Asked, Ended, Known, Reached
from notnow.journal import Exchange, Target, Transfer
from notnow.protocols.ftp import DataEnding

Resumes = Literal["no", "rest", "append", "twice"]
SIZES = (300, 1_000, 2_000)
UPLOADS = ("STOR", "APPE")


@dataclass(frozen=True, slots=True)
class File:
    """A file to send or to fetch."""

    number: int
    upload: bool
    size: int
    folder: tuple[str, str] = ("in", "out")

    @property
    def path(self) -> str:
        return f"/{self.folder[not self.upload]}/{self.number}.csv"

    @property
    def content(self) -> bytes:
        letters = string.ascii_letters
        once = "".join(letters[(i * 7 + self.number * 13) % len(letters)] for i in range(len(letters)))
        return (once * (self.size // len(once) + 1))[: self.size].encode()


@dataclass(frozen=True, slots=True)
class Program(Habits):
    """What an FTP client does; see `Habits`.

    `resumes`: how it goes on after a cut: from the start, by REST, by APPE of what SIZE says is missing, or, wrongly, by
    APPE of the whole. `trusts`: it takes a cut transfer for whole. `renames`: it uploads under a temporary name. `probes`:
    it asks for the SIZE of a file first. `lists`: it lists the directory of a file before it fetches it. `resends`: a 421 that follows a 226 is a failure to it.
    """

    files: tuple[File, ...]
    resumes: Resumes = "no"
    trusts: bool = False
    renames: bool = False
    probes: bool = False
    lists: bool = False
    resends: bool = False


# ---- the server ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Running:
    """A transfer under way: what passes, and how its data connection has ended."""

    verb: str
    path: str
    offset: int
    content: bytes
    passed: int = 0
    watch: int | None = None
    cut: DataEnding | None = None
    keep: bool = True
    complete: bool = False
    said: tuple[str, ...] = ()  # what the server said when it ended

    @property
    def stores(self) -> bool:
        return self.verb in UPLOADS


@dataclass(slots=True)
class FTPLine(Line):
    """A control connection. `files` are those of the server."""

    files: dict[str, bytes] = field(default_factory=dict)
    running: Running | None = None

    def command(self, moment: str, argument: str, healthy: tuple[str, ...], path: str = "", source: str = "") -> Reply:
        """A command that is no transfer."""
        known = Target(path, source or None) if path else None
        facts = {"path": path} if path else {}
        return self.ask(moment, f"{moment.upper()} {argument}".strip(), healthy, known=known, **facts)

    def transfer(self, verb: str, path: str, content: bytes, offset: int) -> tuple[Reply, Running]:
        """A transfer of this content from an offset: the replies, and how it went. APPE has no offset on the wire."""
        moment = verb.lower()
        running = self.running = Running(verb, path, 0 if verb == "APPE" else offset, content[offset:])
        if self.over:
            return self.ask(moment, f"{verb} {path}", ()), running
        self.wire.feed(Known(self.id, {"mode": "passive"}), "")
        direction: Literal["upload", "download", "listing"] = (
            "upload" if verb in UPLOADS else "listing" if verb == "NLST" else "download"
        )
        known = Transfer(path, direction, "passive", running.offset, bytes=0, whole=False, data=None)
        reply = self.ask(moment, f"{verb} {path}", self._carry_out, known=known, path=path, mode="passive")
        self.running = None
        reply = Reply((*reply.lines, *running.said), reply.closed or self.over, reply.hung)
        if not self.over:
            self.wire.feed(Ended(self.id, moment), "")
        return reply, running

    def _carry_out(self) -> tuple[str, ...]:
        """The healthy answer to a transfer: its bytes pass, unless it is cut."""
        running, exchange = self.running, self.asking
        assert running is not None
        self.wire.recorder.answer(exchange, "150 here it comes")
        said = self._amid("data", exchange)
        if (
            running.cut is None
            and not self.over
            and running.watch is not None
            and running.watch <= len(running.content)
        ):
            running.passed = running.watch
            self.wire.recorder.more(exchange, bytes=running.passed)
            said += self._reached(running)
        if self.over or running.cut is not None or said:
            running.said = said
            self._note_cut(running, exchange)
            return ()
        self._come_to_its_end(running, exchange)
        return ("226 done",)

    def _reached(self, running: Running) -> tuple[str, ...]:
        script = self.wire.feed(Reached(self.id), running.verb.lower())
        if script is None:
            return ()
        said = self.wire.recorder.ask(
            self.record, "transfer", f"({running.passed} bytes so far)", script.phase, counted=False
        )
        return self.perform(script, said, ()).lines

    def _amid(self, moment: str, exchange: Exchange) -> tuple[str, ...]:
        """What a rule says within a transfer."""
        running = self.running
        if running is None or not self.wire.engine.has_rules_at(moment):
            return ()
        facts = {"command": running.verb, "path": running.path, "mode": "passive", "resumed": None}
        script = self.wire.feed(Asked(self.id, moment, facts), moment)
        if script is None or script.fault is None:
            return ()
        return self.perform(script, exchange, ()).lines

    def _note_cut(self, running: Running, exchange: Exchange) -> None:
        ended = {"bytes": running.passed, "data": running.cut or "fin", "cut_by": "fake"}
        if running.verb == "RETR":
            ended["size"] = running.offset + len(running.content)
        elif running.stores and running.keep and (running.passed or running.verb == "STOR"):
            self._store(running, running.content[: running.passed])
        self.wire.recorder.more(exchange, **ended)

    def _come_to_its_end(self, running: Running, exchange: Exchange) -> None:
        running.passed = len(running.content)
        known: dict[str, object] = {"bytes": running.passed, "whole": True}
        if running.verb == "RETR":
            known["size"] = running.offset + running.passed
        elif running.stores:
            self._store(running, running.content)
            known |= {"stored": True, "sha256": hashlib.sha256(self.files[running.path]).hexdigest()}
        self.wire.recorder.more(exchange, **known)
        running.complete = True

    def _store(self, running: Running, content: bytes) -> None:
        there = self.files.get(running.path, b"")
        kept = there if running.verb == "APPE" else there[: running.offset]
        self.files[running.path] = kept + content

    def instead_of(self, healthy: tuple[str, ...], instead: tuple[str, ...] | None) -> tuple[str, ...]:
        """A transfer that was cut has had its reply."""
        cut = self.running is not None and not self.running.complete and self.running.passed > 0
        return healthy if instead is None or cut else instead

    def act(self, step: Action, exchange: Exchange) -> None:
        match step:
            case Watch(size) if self.running is not None:
                self.running.watch = size
            case EndData(how, keep) if self.running is not None:
                self.running.cut, self.running.keep = how, keep
            case EndData():
                pass
            case _:
                raise AssertionError(f"{step} at {exchange.moment} is not for this wire")


# ---- the client ----------------------------------------------------------------------------------


@dataclass
class FTPClient(Client[Program, FTPLine]):
    """Plays a program."""

    files: dict[str, bytes] = field(default_factory=dict)  # of the server
    have: dict[int, int] = field(default_factory=dict)  # bytes of the downloads that have come
    stored: set[str] = field(default_factory=set)  # temporary names under which a file is whole

    def __post_init__(self) -> None:
        self.tasks = [Task(file, [file.number]) for file in self.program.files]
        self.files |= {file.path: file.content for file in self.program.files if not file.upload}

    def settle(self) -> None:
        for file in self.program.files:
            item = self.truth.item(file.number)
            if file.upload:
                found = self.files.get(file.path, b"")
                item.lucky = found == file.content and not item.copies
                item.garbled = found != file.content and item.said
                item.copies = max(item.copies, 1) if found == file.content else 0

    def quit(self, line: FTPLine) -> None:
        line.command("quit", "", ("221 bye",))
        line.leave()

    def begin(self, line: FTPLine | None, task: Task) -> FTPLine | None:
        self.tries(task, named=line is not None)
        if line is None:
            line = self.wire.connect(FTPLine)
            line.files = self.files
            if not line.greeting.good or not self._log_in(line):
                if (line.record.exchanges[-1].code or 0) >= 500:  # for good, on the way to this file
                    self.truth.item(task.what.number).refused = True
                line.leave()
                return self._failed(line, task, named=False)
        return self._work(line, task)

    def _log_in(self, line: FTPLine) -> bool:
        return all(
            line.command(moment, argument, (healthy,)).good
            for moment, argument, healthy in (
                ("user", "ann", "331 password"),
                ("pass", "********", "230 welcome"),
                ("type", "I", "200 ok"),
            )
        )

    def _failed(self, line: FTPLine, task: Task, *, named: bool) -> FTPLine | None:
        """A try has failed, for now. Returns the connection if it is still good."""
        self.fails(list(task.left), named=named)
        return None if self._gone(line) else line

    def _gone(self, line: FTPLine, reply: Reply | None = None) -> bool:
        """True if the client leaves this connection, or has to."""
        hung = reply is not None and (reply.hung or 421 in reply.codes)
        if hung or line.over or self._last_hung(line):
            line.leave()
            return True
        return False

    @staticmethod
    def _last_hung(line: FTPLine) -> bool:
        last = line.record.exchanges[-1]
        return last.reply is None or 421 in last.codes

    def _work(self, line: FTPLine, task: Task) -> FTPLine | None:
        file: File = task.what
        size, offset = self._looks(line, file), 0
        if size is None or (self.program.lists and not file.upload and not self._lists(line, file)):
            return self._failed(line, task, named=True)
        verb, name = "RETR", file.path
        if file.upload:
            verb, name = "STOR", f"{file.path}.tmp" if self.program.renames else file.path
        tried = task.tries > 0
        if tried and self.program.resumes != "no":
            verb, offset = self._goes_on(file, verb, size)
        if name in self.stored:  # only its name is missing
            return self._gives_name(line, task, name)
        passive = line.command("epsv", "", ("229 Entering Extended Passive Mode (|||40001|)",))
        if not passive.good:
            self.truth.item(file.number).refused |= passive.code >= 500  # for good, on the way to this file
            return self._failed(line, task, named=False)
        if offset and verb != "APPE" and not line.command("rest", str(offset), ("350 ok",)).good:
            return self._failed(line, task, named=False)
        return self._transfers(line, task, verb, name, offset)

    def _looks(self, line: FTPLine, file: File) -> int | None:
        """The size of the file on the server; None if the client cannot ask."""
        needed = self.program.resumes != "no" and file.upload
        if not (self.program.probes or needed):
            return 0
        name = f"{file.path}.tmp" if file.upload and self.program.renames else file.path
        there = self.files.get(name)
        self.truth.item(file.number).shown = True
        healthy = "550 no such file" if there is None else f"213 {len(there)}"
        reply = line.command("size", name, (healthy,), path=name)
        if line.over or not reply.lines or 421 in reply.codes or reply.code // 100 == 4:
            return None
        return len(there) if there is not None and reply.good else 0

    def _lists(self, line: FTPLine, file: File) -> bool:
        """True if it could list the directory of a file that it is to fetch: each has one of its own."""
        item = self.truth.item(file.number)
        passive = line.command("epsv", "", ("229 Entering Extended Passive Mode (|||40001|)",))
        codes = [passive.code]
        item.garbled = self.program.probes  # until it asks for the file, a look at it may be all that it wants
        if passive.good:
            item.shown = True
            reply, _ = line.transfer("NLST", file.path.removesuffix(".csv"), b"1.csv\r\n", 0)
            codes = [code for code in reply.codes if code >= 200]
            item.garbled |= bool(codes) and codes[0] < 400
        item.refused |= bool(codes) and codes[0] >= 500  # for good, on the way to this file
        return bool(codes) and codes[0] < 400 and not line.over and 421 not in codes

    def _goes_on(self, file: File, verb: str, size: int) -> tuple[str, int]:
        """How the client resumes: the command, and the first byte that it sends or wants."""
        if not file.upload:
            return verb, min(self.have.get(file.number, 0), file.size)
        if not 0 < size < file.size:
            return verb, 0
        match self.program.resumes:
            case "append":
                return "APPE", size
            case "twice":
                return "APPE", 0
            case _:
                return verb, size

    def _transfers(self, line: FTPLine, task: Task, verb: str, name: str, offset: int) -> FTPLine | None:
        file: File = task.what
        self.truth.item(file.number).shown = True
        self.truth.item(file.number).garbled = False
        reply, running = line.transfer(verb, name, file.content, offset)
        passed, item = running.passed, self.truth.item(file.number)
        whole = running.complete or (passed > 0 and passed == len(running.content))
        if file.upload:
            if running.complete and name == file.path:
                self._keeps(file)
        elif passed or running.complete:
            self.have[file.number] = running.offset + passed
            item.copies += whole
        final = [code for code in reply.codes if code >= 200]
        good = bool(final) and final[0] < 400
        if good:
            item.said = True
        cut = bool(passed) and not whole
        if final[1:] and self.program.resends:
            good = False
        if good or (cut and self.program.trusts):
            item.dropped = item.dropped or not good
            return self._came(line, task, reply, name)
        if final and final[0] >= 500 and not cut:
            self.refused(task, list(task.left))
        else:
            self.fails(list(task.left), named=True)
        return None if self._gone(line, reply) else line

    def _keeps(self, file: File) -> None:
        item = self.truth.item(file.number)
        item.copies += 1
        if item.copies > 1 and item.said:
            item.spare += 1

    def _came(self, line: FTPLine, task: Task, reply: Reply, name: str) -> FTPLine | None:
        file: File = task.what
        if name != file.path:
            self.stored.add(name)
            self.truth.item(file.number).shown = False  # the wire does not say that it was to get another name
            if self._gone(line, reply):
                self.fails(list(task.left), named=True)
                return None
            return self._gives_name(line, task, name)
        self.succeeds(task, list(task.left))
        return None if self._gone(line, reply) else line

    def _gives_name(self, line: FTPLine, task: Task, name: str) -> FTPLine | None:
        file: File = task.what
        first = line.command("rnfr", name, ("350 go on",), path=name)
        if not first.good:
            return self._answer(line, task, first)
        self.truth.item(file.number).shown = True
        reply = line.command("rnto", file.path, ("250 renamed",), path=file.path, source=name)
        if not reply.good:
            return self._answer(line, task, reply)
        if reply.code == 250 and name in self.files:
            self.files[file.path] = self.files.pop(name)
            self._keeps(file)
        self.truth.item(file.number).said = True
        self.succeeds(task, list(task.left))
        return None if self._gone(line, reply) else line

    def _answer(self, line: FTPLine, task: Task, reply: Reply) -> FTPLine | None:
        if reply.code >= 500:
            self.refused(task, list(task.left))
        else:
            self.fails(list(task.left), named=True)
        return None if self._gone(line, reply) else line


# ---- strategies ----------------------------------------------------------------------------------

files: st.SearchStrategy[tuple[File, ...]] = st.lists(
    st.tuples(st.booleans() | st.just(True), st.sampled_from(SIZES)), min_size=1, max_size=4
).map(lambda drawn: tuple(File(i, *parts) for i, parts in enumerate(drawn, 1)))

programs: st.SearchStrategy[Program] = st.builds(
    Program,
    files=files,
    gives_up=st.sampled_from(("", "", "", "connect", "epsv", "stor", "retr", "pass")),
    resumes=st.sampled_from(("no", "no", "rest", "append", "twice")),
    trusts=st.sampled_from((False, False, False, True)),
    renames=st.sampled_from((False, False, True)),
    probes=st.sampled_from((False, False, True)),
    lists=st.sampled_from((False, False, True)),
    resends=st.sampled_from((False, False, True)),
    **HABITS,
)

_REPLIES = ("421 too many", "450 busy", "425 no data connection", "550 no", "530 no", "452 full")
_TRANSFERS = ("stor", "retr", "nlst", "transfer")


def _rule(on: str, condition: str, where: str, fault: str) -> str:
    """A rule that the grammar allows: what a moment does not have is left out."""
    if on == "idle":
        on, condition, where, fault = "idle", 'after = "300s"', "", 'reply = "421 timeout"'
    if "after_bytes" in fault and on not in _TRANSFERS:
        fault = f'reply = "{_REPLIES[0]}"'
    if "226" in fault and on not in _TRANSFERS:
        fault = f'reply = "{_REPLIES[1]}"'
    if on not in _TRANSFERS:
        where = ""
    if fault.startswith("data") and on != "data":
        fault = "close = true"
    return "\n".join(line for line in (f'on = "{on}"', condition, where, fault) if line) + "\n"


_rules = st.builds(
    _rule,
    st.sampled_from(("stor", "retr", "transfer", *_TRANSFERS, "connect", "user", "pass", "epsv", "any", "idle", "data", "size", "rnto")),
    st.sampled_from(CONDITIONS),
    st.sampled_from(("", "", 'where = { path = "/in/*" }', 'where = { path = "*/2.csv" }')),
    st.sampled_from((
        *(f'reply = "{reply}"' for reply in _REPLIES),
        "close = true",
        'reply = "421 stays"\nclose = false',
        'after_bytes = 500\ndata = "fin"',
        'after_bytes = 500\ndata = "reset"\nreply = "421 cut"',
        "after_bytes = 900\nclose = true",
        'after_bytes = 500\nreply = "426 cut"\nkeep = false',
        'reply = ["226 done", "421 bye"]',
        'delay = "20s"',
        'data = "fin"',
    )),
)  # fmt: skip

scenarios: st.SearchStrategy[str] = st.builds(
    document, st.just("ftp"), st.lists(_rules, max_size=3), st.sampled_from(LASTS)
)


def mirror(program: Program, scenario: str) -> tuple[Program, str]:
    """The same client and scenario under other names."""
    files = tuple(replace(file, folder=("up", "down")) for file in program.files)
    return replace(program, files=files), scenario.replace('"/in/*"', '"/up/*"')


def has_twins(program: Program) -> bool:
    """True if two files have the same name."""
    return len({file.path for file in program.files}) < len(program.files)


# A rule of FTP that is broken, and what is true of a client that broke it.
ACCUSATIONS: dict[str, Accusation] = {
    "ftp.final-is-final": lambda _, truth: any(item.repeated for item in truth.items.values()),
    "ftp.plain-421": lambda _, __: True,  # each of these clients leaves after any 421
    # Workers whose connections never overlap look like one that does not wait.
    "ftp.wait-before-reconnect": lambda program, _: (
        min(program.waits, default=0.0) < 1.0 or bool(program.gives_up) or program.workers > 1
    ),
    "ftp.no-retry-storm": lambda program, _: bool(program.waits) or len(program.files) > 1,
    "ftp.rename-whole-files": lambda program, _: program.trusts or program.resumes == "twice",
    "ftp.spare-the-password": lambda program, _: program.repeats or bool(program.waits) or len(program.files) > 1,
    "ftp.mend-cut-upload": lambda program, truth: program.resumes == "twice" or bool(truth.lost),
}
NEEDS_NO_FAULT = frozenset({"ftp.in-step"})


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "ftp")
    return wire, FTPClient(program, wire).play()
