"""Generated mail clients."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from tests.truth.client import CONDITIONS, HABITS, LASTS, Client, Habits, Task, document
from tests.truth.properties import Accusation  # noqa: TC002
from tests.truth.truth import Truth  # noqa: TC002
from tests.truth.wire import Line, Reply, Wire

from notnow.journal import Exchange, Message

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
        return f"<{self.number}@client.test>" if self.marked else None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"message {self.number}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Program(Habits):
    """What a mail client does; see `Habits`.

    `splits`: a transaction for each recipient. `forgets`: it drops recipients that were deferred while others were
    accepted. `resends`: a 421 that follows the 250 is a failure to it.
    """

    mails: tuple[Mail, ...]
    splits: bool = False
    forgets: bool = False
    resends: bool = False


Key = tuple[int, str]  # the number of a mail, and a recipient


@dataclass
class SMTPClient(Client[Program, Line]):
    """Plays a program."""

    def __post_init__(self) -> None:
        self.tasks = [
            Task(mail, [(mail.number, one) for one in part])
            for mail in self.program.mails
            for part in self._parts(mail)
        ]

    def _parts(self, mail: Mail) -> Sequence[Sequence[str]]:
        return [[one] for one in mail.recipients] if self.program.splits else [mail.recipients]

    def quit(self, line: Line) -> None:
        line.ask("quit", "QUIT", ["221 bye"])
        line.leave()

    # ---- a try ---------------------------------------------------------------------------------------

    def begin(self, line: Line | None, task: Task) -> Line | None:
        self.tries(task, named=line is not None)
        if line is None:
            line = self.wire.connect(Line)
            if not line.greeting.good or not line.ask("ehlo", "EHLO client.test", ["250 hello"]).good:
                line.leave()
                self.fails(task.left, named=False)
                return None
        mail: Mail = task.what
        reply = line.ask("mail", f"MAIL FROM:<{mail.sender}>", ["250 ok"], sender=mail.sender)
        if not reply.good:
            self._answer(task, task.left, reply)
            return self._after(line, reply)
        return self._recipients(task, line)

    def _recipients(self, task: Task, line: Line) -> Line | None:
        mail, taken = task.what, list[Key]()
        for key in list(task.left):
            asked = tuple(recipient for _, recipient in (*taken, key))
            self.truth.item(key).shown = self._is_unique(mail, key[1])
            reply = line.ask("rcpt", f"RCPT TO:<{key[1]}>", ["250 ok"], sender=mail.sender, recipient=asked)
            if reply.good:
                taken.append(key)
            elif reply.closed or reply.hung:
                self.fails(task.left, named=True)
                return self._after(line, reply)
            else:
                self._answer(task, [key], reply)
        if not taken:
            line.ask("rset", "RSET", ["250 ok"])
            return None if line.over else line
        if self.program.forgets:
            for key in [one for one in task.left if one not in taken]:
                self.truth.item(key).dropped = True
            task.left = [one for one in task.left if one in taken]
        return self._content(task, line, taken)

    def _is_unique(self, mail: Mail, recipient: str) -> bool:
        """True if no other mail has this sender and this recipient."""
        alike = [one for one in self.program.mails if one.sender == mail.sender and recipient in one.recipients]
        return len(alike) == 1

    def _content(self, task: Task, line: Line, taken: list[Key]) -> Line | None:
        mail: Mail = task.what
        recipients = tuple(recipient for _, recipient in taken)
        reply = line.ask("data", "DATA", ["354 go on"], sender=mail.sender, recipient=recipients)
        if reply.code != 354:
            self._answer(task, taken, reply)
            return self._after(line, reply)

        def store(exchange: Exchange, takes_effect: bool) -> None:
            facts = Message(
                mail.id, mail.sha256, mail.sender, recipients, stored=takes_effect, size=100, text_sha256=mail.sha256
            )
            self.wire.recorder.facts(exchange, facts)
            for key in taken if takes_effect else ():
                self._stored(key, mail.marked)

        reply = line.ask(
            "message", "(100 bytes)", ["250 queued"], store, sender=mail.sender, recipient=recipients, size=100
        )
        line.ended("mail")
        for key in taken if reply.good else ():
            self.truth.item(key).said = True
        if reply.codes[1:] and self.program.resends:
            self.fails(taken, named=True)
        else:
            self._answer(task, taken, reply)
        return self._after(line, reply)

    def _stored(self, key: Key, marked: bool) -> None:
        item = self.truth.item(key)
        item.copies += 1
        if item.copies > 1 and (item.said or not marked):
            item.spare += 1

    # ---- what the client is told ---------------------------------------------------------------------

    def _answer(self, task: Task, keys: Sequence[Key], reply: Reply) -> None:
        """The server answered for these recipients."""
        if reply.good:
            self.succeeds(task, list(keys))
        elif reply.code >= 500:
            self.refused(task, list(keys))
        else:
            self.fails(keys, named=True)

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
    splits=st.booleans(),
    gives_up=st.sampled_from(("", "", "", "connect", "mail", "rcpt", "message")),
    forgets=st.sampled_from((False, False, True)),
    resends=st.sampled_from((False, False, True)),
    **HABITS,
)

_REPLIES = ("421 4.3.2 busy", "451 4.3.0 later", "550 5.7.1 no", "452 4.5.3 too many")


def _rules() -> st.SearchStrategy[str]:
    condition = st.sampled_from((*CONDITIONS, "over = 1"))
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
    return "\n".join(line for line in (f'on = "{on}"', condition, where, fault) if line) + "\n"


scenarios: st.SearchStrategy[str] = st.builds(
    document, st.just("smtp"), st.lists(_rules(), max_size=3), st.sampled_from(LASTS)
)


def mirror(program: Program, scenario: str) -> tuple[Program, str]:
    """The same client and scenario under other names."""
    mails = tuple(
        replace(
            mail,
            number=mail.number + 40,
            sender=_renamed(mail.sender),
            recipients=tuple(_renamed(one) for one in mail.recipients),
        )
        for mail in program.mails
    )
    return replace(program, mails=mails), _renamed(scenario)


def has_twins(program: Program) -> bool:
    """True if two mails share a sender and a recipient."""
    paths = [(mail.sender, recipient) for mail in program.mails for recipient in mail.recipients]
    return len(paths) > len(set(paths))


def _renamed(text: str) -> str:
    for old, new in (("ann@", "zoe@"), ("eve@", "amy@"), ("bob@", "yan@"), ("carol@", "abe@"), ("dave@", "max@")):
        text = text.replace(old, new)
    return text


def _dropped(_: Program, truth: Truth) -> bool:
    return any(item.dropped for item in truth.items.values())


def _doubled(_: Program, truth: Truth) -> bool:
    return bool(truth.doubled)


# A rule of SMTP that is broken, and what is true of a client that broke it.
ACCUSATIONS: dict[str, Accusation] = {
    "smtp.wait-before-retry": lambda _, truth: any(item.came_at_once for item in truth.items.values()),
    "smtp.tries-again": _dropped,
    "smtp.no-bounce-for-421": _dropped,
    "smtp.reuse-after-idle": _dropped,
    "smtp.resend-all-recipients": _dropped,
    "smtp.survives-421": _dropped,
    "smtp.too-many-recipients": _dropped,
    "smtp.silent-close": lambda program, truth: _dropped(program, truth) or min(program.waits, default=0.0) < 1.0,
    "smtp.final-is-final": lambda _, truth: any(item.repeated for item in truth.items.values()),
    "smtp.no-second-copy": _doubled,
    "smtp.intervals-grow": lambda program, _: len(program.waits) == 1,
    "smtp.retry-interval": lambda program, _: min(program.waits, default=0.0) < 1800.0,
    "smtp.nothing-but-quit": lambda _, truth: truth.went_on > 0,
    "smtp.remembers-busy-host": lambda program, _: len(program.mails) > 1 or program.splits,
    "smtp.fewer-connections": lambda program, _: program.workers > 1,
    "smtp.jitter": lambda program, _: program.workers > 1,
}
NEEDS_NO_FAULT = frozenset({"smtp.no-second-copy", "smtp.in-step"})  # a healthy run is an occasion for these


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "smtp")
    return wire, SMTPClient(program, wire).play()
