"""Generated mail clients."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st
from tests.truth.truth import Truth
from tests.truth.wire import Line, Reply, Wire

from notnow.journal import Exchange, Message

TRIES = 6  # most tries of an item
RECIPIENTS = ("bob@site.test", "carol@site.test", "dave@other.test")
SENDERS = ("ann@client.test", "eve@client.test")


@dataclass(frozen=True, slots=True)
class Mail:
    """A message to send. `marked`: it has a Message-ID."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    marked: bool

    @property
    def id(self) -> str | None:
        return f"{self.number}@client.test" if self.marked else None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"message {self.number}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Program:
    """What a mail client does.

    `workers` share the mails. `keeps`: a worker keeps its connection for its next mail, after `pause` seconds. `splits`: a
    transaction for each recipient. `waits` are its pauses between tries, the last one for ever after; with none it drops
    what was deferred. `forgets`: it drops recipients that were deferred while others were accepted. `resends`: a 421
    that follows the 250 is a failure to it. `repeats`: it tries again what was refused for good. `exits` is the exit code:
    "honest" is 75 if something did not come through.
    """

    mails: tuple[Mail, ...]
    workers: int = 1
    keeps: bool = False
    pause: float = 0.0
    splits: bool = False
    waits: tuple[float, ...] = (60.0,)
    forgets: bool = False
    resends: bool = False
    repeats: bool = False
    exits: Literal["honest", "zero", "alarm"] = "honest"


@dataclass(slots=True)
class Task:
    """Recipients of a mail that one transaction is for."""

    mail: Mail
    left: list[str]
    tries: int = 0


class Client:
    """Plays a program on a wire, and knows the truth of it."""

    def __init__(self, program: Program, wire: Wire) -> None:
        self.program, self.wire, self.truth = program, wire, Truth()
        self.tasks = [Task(mail, list(part)) for mail in program.mails for part in self._parts(mail)]
        for mail in program.mails:
            for recipient in mail.recipients:
                self.truth.item((mail.number, recipient))

    def _parts(self, mail: Mail) -> Sequence[Sequence[str]]:
        return [[one] for one in mail.recipients] if self.program.splits else [mail.recipients]

    def play(self) -> Truth:
        self.wire.run([self._worker() for _ in range(self.program.workers)])
        truth = self.truth
        unsent = any(not item.accepted and not item.refused for item in truth.items.values())
        truth.exit = {"honest": 75 if unsent else 0, "zero": 0, "alarm": 75}[self.program.exits]
        truth.faults = sum(x.fault is not None for x in self.wire.recorder.journal.exchanges)
        return truth

    # ---- a worker ----------------------------------------------------------------------------------

    def _worker(self) -> Generator[float, None, None]:
        line: Line | None = None
        while self.tasks:
            task = self.tasks.pop(0)
            while task.left:
                line = self._try(task, line)
                if not task.left:
                    break
                pause = self._pause(task)
                if pause is None:
                    self._drop(task)
                else:
                    line = self._part(line)
                    yield pause
            line = self._part(line)
            if self.program.keeps and self.program.pause and self.tasks:
                yield self.program.pause
        if line is not None:
            self._quit(line)

    def _part(self, line: Line | None) -> Line | None:
        """The connection, if the client keeps it."""
        if line is not None and not self.program.keeps:
            self._quit(line)
            return None
        return line

    def _quit(self, line: Line) -> None:
        line.ask("quit", "QUIT", ["221 bye"])
        line.leave()

    def _pause(self, task: Task) -> float | None:
        waits = self.program.waits
        task.tries += 1
        if not waits or task.tries >= TRIES:
            return None
        return waits[min(task.tries, len(waits)) - 1]

    def _drop(self, task: Task) -> None:
        for recipient in task.left:
            self.truth.item((task.mail.number, recipient)).dropped = True
        task.left.clear()

    # ---- a try ---------------------------------------------------------------------------------------

    def _try(self, task: Task, line: Line | None) -> Line | None:
        """One try at the recipients that are left. Returns the connection if it is still good."""
        if line is None:
            self._begin(task, named=False)
            line = self.wire.connect()
            if not line.greeting.good or not self._hello(line):
                line.leave()
                self._fail(task, task.left, named=False)
                return None
        else:
            self._begin(task, named=True)
        mail = task.mail
        reply = line.ask("mail", f"MAIL FROM:<{mail.sender}>", ["250 ok"], sender=mail.sender)
        if not reply.good:
            self._answer(task, task.left, reply, named=True)
            return self._after(line, reply)
        return self._recipients(task, line)

    def _hello(self, line: Line) -> bool:
        return line.ask("ehlo", "EHLO client.test", ["250 hello"]).good

    def _recipients(self, task: Task, line: Line) -> Line | None:
        mail, taken = task.mail, list[str]()
        for recipient in list(task.left):
            asked = (*taken, recipient)
            reply = line.ask("rcpt", f"RCPT TO:<{recipient}>", ["250 ok"], sender=mail.sender, recipient=asked)
            if reply.good:
                taken.append(recipient)
            elif reply.closed or reply.hung:
                self._fail(task, task.left, named=True)
                return self._after(line, reply)
            else:
                self._answer(task, [recipient], reply, named=True)
        if not taken:
            line.ask("rset", "RSET", ["250 ok"])
            return None if line.over else line
        if self.program.forgets:
            for recipient in [one for one in task.left if one not in taken]:
                self.truth.item((mail.number, recipient)).dropped = True
            task.left = [one for one in task.left if one in taken]
        return self._content(task, line, taken)

    def _content(self, task: Task, line: Line, taken: list[str]) -> Line | None:
        mail = task.mail
        reply = line.ask("data", "DATA", ["354 go on"], sender=mail.sender, recipient=tuple(taken))
        if reply.code != 354:
            self._answer(task, taken, reply, named=True)
            return self._after(line, reply)

        def store(exchange: Exchange, takes_effect: bool) -> None:
            facts = Message(mail.id, mail.sha256, mail.sender, tuple(taken), stored=takes_effect)
            self.wire.recorder.facts(exchange, facts)
            for recipient in taken if takes_effect else ():
                self._stored((mail.number, recipient), mail.marked)

        reply = line.ask("message", "", ["250 queued"], store, sender=mail.sender, recipient=tuple(taken), size=100)
        line.ended("mail")
        for recipient in taken if reply.good else ():
            self.truth.item((mail.number, recipient)).said = True
        if reply.codes[1:] and self.program.resends:
            self._fail(task, taken, named=True)
            return self._after(line, reply)
        self._answer(task, taken, reply, named=True)
        return self._after(line, reply)

    def _stored(self, key: tuple[int, str], marked: bool) -> None:
        item = self.truth.item(key)
        item.copies += 1
        if item.copies > 1 and (item.said or not marked):
            item.spare += 1

    # ---- what the client is told ---------------------------------------------------------------------

    def _begin(self, task: Task, *, named: bool) -> None:
        for recipient in task.left:
            item = self.truth.item((task.mail.number, recipient))
            item.begins(self.wire.clock.now(), named=named)
            item.repeated += item.refused

    def _answer(self, task: Task, recipients: Sequence[str], reply: Reply, *, named: bool) -> None:
        """The server answered for these recipients."""
        if reply.good:
            for recipient in list(recipients):
                self.truth.item((task.mail.number, recipient)).accepted = True
                task.left.remove(recipient)
        elif reply.code >= 500:
            for recipient in list(recipients):
                self.truth.item((task.mail.number, recipient)).refused = True
                if not self.program.repeats:
                    task.left.remove(recipient)
        else:
            self._fail(task, recipients, named=named)

    def _fail(self, task: Task, recipients: Sequence[str], *, named: bool) -> None:
        for recipient in recipients:
            self.truth.item((task.mail.number, recipient)).fails(self.wire.clock.now(), named=named)

    def _after(self, line: Line, reply: Reply) -> Line | None:
        """The connection, if it is still good."""
        if reply.hung:
            line.leave()
        if reply.closed or line.over or 421 in reply.codes:
            line.leave()
            return None
        if not reply.good:
            line.ask("rset", "RSET", ["250 ok"])
        return None if line.over else line


# ---- strategies ----------------------------------------------------------------------------------


def mails(count: int) -> st.SearchStrategy[tuple[Mail, ...]]:
    one = st.tuples(
        st.sampled_from(SENDERS),
        st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=2, unique=True).map(tuple),
        st.booleans() | st.just(True),
    )
    return st.lists(one, min_size=1, max_size=count).map(
        lambda drawn: tuple(Mail(i, *parts) for i, parts in enumerate(drawn, 1))
    )


programs: st.SearchStrategy[Program] = st.builds(
    Program,
    mails=mails(4),
    workers=st.sampled_from((1, 1, 1, 2, 3)),
    keeps=st.booleans(),
    pause=st.sampled_from((0.0, 10.0, 400.0)),
    splits=st.booleans(),
    waits=st.sampled_from(((), (0.0,), (0.2,), (5.0,), (60.0,), (1800.0,), (1.0, 2.0, 4.0, 8.0))),
    forgets=st.sampled_from((False, False, True)),
    resends=st.sampled_from((False, False, True)),
    repeats=st.sampled_from((False, False, True)),
    exits=st.sampled_from(("honest", "honest", "zero", "alarm")),
)

_REPLIES = ("421 4.3.2 busy", "451 4.3.0 later", "550 5.7.1 no", "452 4.5.3 too many")


def _rules() -> st.SearchStrategy[str]:
    condition = st.sampled_from(
        (
            "",
            "nth = 1",
            "nth = 2",
            "first = 1",
            "first = 2",
            "first = 4",
            "after = 1",
            "over = 1",
            "every = 2",
            'first = "20m"',
        )
    )
    on = st.sampled_from(("connect", "ehlo", "mail", "rcpt", "data", "message", "any", "idle"))
    where = st.sampled_from(("", "", 'where = { recipient = "carol@*" }', 'where = { sender = "eve@*" }'))
    fault = st.sampled_from(
        (*(f'reply = "{reply}"' for reply in _REPLIES), "close = true", 'reply = "421 4.3.2 stays"\nclose = false',
         'reply = "451 4.3.0 kept"\nkeep = true', 'reply = ["250 ok", "421 4.3.2 bye"]', 'delay = "20s"')
    )  # fmt: skip
    return st.builds(_rule, on, condition, where, fault)


def _rule(on: str, condition: str, where: str, fault: str) -> str:
    """A rule that the grammar allows: what a moment does not have is left out."""
    if on in ("connect", "ehlo", "idle"):
        where = "" if "recipient" in where or on != "any" else where
    if "recipient" in where and on in ("mail",):
        where = ""
    if on == "idle":
        condition, where = 'after = "300s"', ""
        fault = 'reply = "421 4.4.2 idle"'
    if "keep" in fault and on != "message":
        fault = f'reply = "{_REPLIES[1]}"'
    if "250 ok" in fault and on != "message":
        fault = f'reply = "{_REPLIES[0]}"'
    if "over" in condition and on not in ("connect", "mail"):
        condition = "nth = 1"
    lines = [f'on = "{on}"', condition, where, fault]
    return "[[phase.rule]]\n" + "\n".join(line for line in lines if line) + "\n"


def _document(rules: Sequence[str], lasts: str, healthy: bool) -> str:
    head = 'protocol = "smtp"\n\n[[phase]]\nname = "one"\n'
    end = f"{head}{lasts}\n" + "".join(rules)
    return (
        end
        + ('\n[[phase]]\nname = "healthy"\n' if healthy and lasts else "")
        + "\n[expect]\ndelivered = { times = 1 }\nno_duplicates = true\n"
    )


scenarios: st.SearchStrategy[str] = st.builds(
    _document,
    st.lists(_rules(), max_size=3),
    st.sampled_from(("", 'lasts = "30s"', 'lasts = "10m"', "until = { connect = 3 }")),
    st.just(True),
)


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "smtp")
    return wire, Client(program, wire).play()
