"""Generated FTP clients."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st
from tests.truth.truth import ItemTruth, Truth
from tests.truth.wire import Line, Reply, Wire

from notnow.journal import Exchange, Target, Transfer

TRIES = 6  # most tries of a file
Naming = Literal["direct", "part", "fresh"]


@dataclass(frozen=True, slots=True)
class File:
    """A file to transfer. An upload may get a temporary name first: always the same, or a fresh one for each try."""

    number: int
    upload: bool
    naming: Naming = "direct"

    @property
    def path(self) -> str:
        return f"f{self.number}.bin"

    def name(self, tries: int) -> str:
        """The name under which it is uploaded."""
        return {"direct": self.path, "part": f"{self.path}.part", "fresh": f"{self.path}.part{tries}"}[self.naming]


@dataclass(frozen=True, slots=True)
class Program:
    """What an FTP client does.

    `workers` share the files. `keeps`: a worker keeps its session for its next file. `lists`: it looks at the directory
    first. `waits` are the pauses between tries, the last one for ever after; with none it drops what was deferred.
    `last_word`: it takes the last of several replies for the one to its command, and so repeats what was accepted.
    `exits` is the exit code: "honest" is 75 if something did not come through.
    """

    files: tuple[File, ...]
    workers: int = 1
    keeps: bool = True
    lists: bool = False
    waits: tuple[float, ...] = (1.0,)
    last_word: bool = False
    exits: Literal["honest", "zero", "alarm"] = "honest"


@dataclass(slots=True)
class Task:
    """A file, and how often it was tried."""

    file: File
    tries: int = 0


class Session:
    """A control connection of a client that is logged in, unless `trouble` says what was in the way."""

    def __init__(self, wire: Wire, lists: bool) -> None:
        self.line: Line = wire.connect()
        self.trouble: Reply | None = None if self.line.greeting.good else self.line.greeting
        for moment, request, healthy in (
            ("user", "USER ann", "331 Password?"),
            ("pass", "PASS ********", "230 Welcome."),
            ("type", "TYPE I", "200 Type set."),
        ):
            self._say(moment, request, healthy)
        if lists and self.trouble is None:
            self._list()

    def _say(self, moment: str, request: str, healthy: str) -> None:
        if self.trouble is None:
            reply = self.line.ask(moment, request, [healthy])
            if not reply.good or self.line.over:
                self.trouble = reply

    def _list(self) -> None:
        self._say("pasv", "PASV", "227 Here (127,0,0,1,1,2)")
        if self.trouble is None:

            def effect(x: Exchange, proceeds: bool) -> None:
                self.line.wire.recorder.facts(x, Transfer("/", "listing", "passive", 0, 10, proceeds, None))

            reply = self.line.ask("nlst", "NLST", ["226 Done."], effect)
            self.line.ended("nlst")
            if not reply.good or self.line.over:
                self.trouble = reply

    def leave(self) -> None:
        if not self.line.over:
            self.line.ask("quit", "QUIT", ["221 Bye."])
        self.line.leave()


class Client:
    """Plays a program on a wire, and knows the truth of it."""

    def __init__(self, program: Program, wire: Wire) -> None:
        self.program, self.wire, self.truth = program, wire, Truth()
        self.tasks = [Task(file) for file in program.files]
        for file in program.files:
            self.truth.item(file.number)

    def play(self) -> Truth:
        self.wire.run([self._worker() for _ in range(self.program.workers)])
        truth = self.truth
        unsent = any(not item.accepted and not item.refused for item in truth.items.values())
        truth.exit = {"honest": 75 if unsent else 0, "zero": 0, "alarm": 75}[self.program.exits]
        truth.faults = sum(x.fault is not None for x in self.wire.recorder.journal.exchanges)
        return truth

    def _worker(self) -> Generator[float, None, None]:
        session: Session | None = None
        while self.tasks:
            task = self.tasks.pop(0)
            item = self.truth.item(task.file.number)
            while True:
                task.tries += 1
                fresh = session is None or session.line.over
                if session is None or fresh:
                    session = Session(self.wire, self.program.lists)
                item.begins(self.wire.clock.now(), named=False)
                reply = session.trouble if session.trouble is not None else self._transfer(session.line, task, item)
                if reply.hung or session.trouble is not None or not self.program.keeps:
                    session.leave()
                pause = self._after(task, item, reply, at_the_door=fresh and session.trouble is not None)
                if pause is None:
                    break
                yield pause
        if session is not None:
            session.leave()

    def _transfer(self, line: Line, task: Task, item: ItemTruth) -> Reply:
        """PASV, and the transfer with all that belongs to it; the reply that settled it."""
        file = task.file
        ready = line.ask("pasv", "PASV", ["227 Here (127,0,0,1,1,2)"])
        if not ready.good or line.over:
            return ready if line.over is False or not ready.good else Reply(ready.lines, closed=True)
        return self._store(line, task, item) if file.upload else self._fetch(line, file, item)

    def _fetch(self, line: Line, file: File, item: ItemTruth) -> Reply:
        def effect(x: Exchange, proceeds: bool) -> None:
            self.wire.recorder.facts(
                x, Transfer(f"/{file.path}", "download", "passive", 0, 9 * proceeds, proceeds, None)
            )
            item.copies += proceeds

        reply = line.ask("retr", f"RETR {file.path}", ["226 Done."], effect)
        line.ended("retr")
        return reply

    def _store(self, line: Line, task: Task, item: ItemTruth) -> Reply:
        file, name = task.file, task.file.name(task.tries)
        sha256 = hashlib.sha256(file.path.encode()).hexdigest()

        def stored(x: Exchange, proceeds: bool) -> None:
            known = Transfer(f"/{name}", "upload", "passive", 0, 9 * proceeds, proceeds, None)
            if proceeds:
                known = Transfer(f"/{name}", "upload", "passive", 0, 9, True, None, stored=True, sha256=sha256)
                self._came(item, file.naming == "direct")
            self.wire.recorder.facts(x, known)

        reply = line.ask("stor", f"STOR {name}", ["226 Done."], stored)
        line.ended("stor")
        if file.naming == "direct" or not reply.good or line.over:
            return reply
        return self._rename(line, file, name, item)

    def _rename(self, line: Line, file: File, name: str, item: ItemTruth) -> Reply:
        def source(x: Exchange, _: bool) -> None:
            self.wire.recorder.facts(x, Target(f"/{name}"))

        def target(x: Exchange, proceeds: bool) -> None:
            self.wire.recorder.facts(x, Target(f"/{file.path}", f"/{name}"))
            self._came(item, proceeds)

        reply = line.ask("rnfr", f"RNFR {name}", ["350 Go on."], source)
        return line.ask("rnto", f"RNTO {file.path}", ["250 Done."], target) if reply.good and not line.over else reply

    def _came(self, item: ItemTruth, came: bool) -> None:
        item.copies += came
        item.spare += came and item.said and item.copies > 1

    def _after(self, task: Task, item: ItemTruth, reply: Reply, *, at_the_door: bool) -> float | None:
        """The pause before the next try; None if there is none."""
        item.said = item.said or reply.good
        code = reply.codes[-1] if self.program.last_word and reply.codes else reply.code
        if 200 <= code < 400:
            item.accepted = True
            return None
        if code >= 500:
            item.refused = True
            return None
        item.fails(self.wire.clock.now(), named=at_the_door)
        if not self.program.waits or task.tries >= TRIES:
            item.dropped = True
            return None
        return self.program.waits[min(task.tries, len(self.program.waits)) - 1]


# ---- strategies ----------------------------------------------------------------------------------

_FILES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(("direct", "direct", "part", "fresh"))), min_size=1, max_size=5
).map(lambda drawn: tuple(File(n, upload, naming) for n, (upload, naming) in enumerate(drawn, 1)))

programs: st.SearchStrategy[Program] = st.builds(
    Program,
    files=_FILES,
    workers=st.sampled_from((1, 1, 2, 3)),
    keeps=st.booleans(),
    lists=st.sampled_from((False, False, True)),
    waits=st.sampled_from(((), (0.1,), (1.0,), (30.0,), (1.0, 2.0, 4.0, 8.0))),
    last_word=st.sampled_from((False, False, True)),
    exits=st.sampled_from(("honest", "honest", "zero", "alarm")),
)


def _rule(on: str, condition: str, fault: str) -> str:
    if "keep" in fault and on != "stor":
        fault = 'reply = "421 Not now."'
    if "226" in fault and on not in ("stor", "retr"):
        fault = 'reply = "450 Not now."'
    lines = [f'on = "{on}"', condition, fault]
    return "[[phase.rule]]\n" + "\n".join(line for line in lines if line) + "\n"


def _document(rules: Sequence[str], lasts: str) -> str:
    head = f'protocol = "ftp"\n\n[[phase]]\nname = "one"\n{lasts}\n'
    healthy = '\n[[phase]]\nname = "healthy"\n' if lasts else ""
    return head + "".join(rules) + healthy + "\n[expect]\ndelivered = { times = 1 }\nno_duplicates = true\n"


_RULES = st.builds(
    _rule,
    st.sampled_from(("connect", "user", "pass", "pasv", "retr", "retr", "stor", "stor", "rnfr", "rnto", "nlst")),
    st.sampled_from(("", "nth = 1", "nth = 2", "first = 2", "first = 4", "after = 1", "every = 2")),
    st.sampled_from(
        (
            'reply = "421 Not now."',
            'reply = "421 Not now."\nclose = false',
            'reply = "450 Not now."',
            'reply = "550 Never."',
            "close = true",
            "stall = true",
            'delay = "5s"',
            'reply = ["226 Done.", "421 Bye."]',
            'reply = "421 Not now."\nkeep = true',
            'reply = "426 Cut."\nkeep = true',
        )
    ),
)

scenarios: st.SearchStrategy[str] = st.builds(
    _document, st.lists(_RULES, max_size=3), st.sampled_from(("", 'lasts = "10s"', 'lasts = "10m"'))
)


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "ftp")
    return wire, Client(program, wire).play()
