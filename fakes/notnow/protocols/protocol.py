"""The record of a protocol: what every part of notnow has to know about it.

A record imports nothing above it: it names the class of the fake and the rules of conduct by dotted paths.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from notnow.protocols.fact import Fact
from notnow.protocols.moment import CONNECTION_FACTS, Moment


class Words(Struct, frozen=True, kw_only=True):
    """The words of reports.

    `item`: what a client wants to get through. `unfinished`: what it leaves unfinished when it fails. `done`: what
    the server has done with an item. `nothing`: the outcome of a connection on which nothing happened. `delivered`
    and `no_duplicates`: the sentences for these keys of `[expect]`; `{times}` is the number of times.
    """

    item: str
    unfinished: str
    done: str
    nothing: str
    delivered: str
    no_duplicates: str


class Sample(Struct, frozen=True):
    """A shell command that tries a fake: `{url}`, `{server}` (host and port) and `{ca}` are filled in.

    `tls` has the options to append in each TLS mode; the sample does not fit a mode that is not there.
    """

    program: str
    command: str
    tls: Mapping[str, str] = field(default_factory=lambda: {"none": ""})


class Protocol(Struct, frozen=True, kw_only=True):
    """What notnow knows of one protocol.

    `fake`, `rules` and `ledger`: dotted paths of the class of its fake, of the module with its rules of conduct (None
    while there are none), and of the module whose `ledger(run)` finds the items of a run (None while nothing can). `faults`:
    that of the module with the faults of a sweep (None for those of any protocol).
    `also_counted`: what a journal counts besides the moments; those in `not_commands` are not commands, so `any`
    does not cover them.
    `tls_modes`: the values that `tls` of `[server]` may have. `server_keys` and `expect_keys`: the keys of `[server]`
    and `[expect]` that only some protocols have, and this one does. `aliases`: other names that people use for it.
    `samples`: commands that try a fake, the preferred one first; the last one fits every TLS mode.
    `longest_reply`: octets of a reply line without its CRLF. `free_text_replies`: a reply may begin with 1yz lines,
    and the lines in its middle need no code (RFC 959 §4.2).
    `visit`: the moments of the shortest visit of a client with one item, after the connection, in order.
    `work`: the moment that takes a unit of work at a server of finite capacity, unless its scenario says otherwise.
    `multiplexed`: a connection carries several requests at a time.
    `answers_each_recipient`: a message gets one reply for each recipient (RFC 2033 §4.2), so that each of them is
    an item of its own.
    """

    name: str
    fake: str
    moments: Mapping[str, Moment]
    facts: Mapping[str, Fact]
    words: Words
    samples: tuple[Sample, ...]
    tls_modes: tuple[str, ...] = ("none", "starttls", "implicit")
    server_keys: frozenset[str] = frozenset()
    expect_keys: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    also_counted: tuple[str, ...] = ("unknown",)
    not_commands: frozenset[str] = frozenset()
    rules: str | None = None
    ledger: str | None = None
    faults: str | None = None
    longest_reply: int | None = None
    free_text_replies: bool = False
    work: str = "connect"
    visit: tuple[str, ...] = ()
    multiplexed: bool = False
    answers_each_recipient: bool = False

    def covering(self, moment: str) -> frozenset[str]:
        """The values of `on` that cover an event of `moment`: itself, and what is broader.

        `any` covers a command without a moment of its own.
        """
        known = self.moments.get(moment)
        return (known.within if known else frozenset({"any"})) | {moment}

    def by_verb(self) -> dict[str, str]:
        """The moment of each command that has one of its own, by its verb."""
        commands = ((name, moment) for name, moment in self.moments.items() if "any" in moment.within)
        return {verb: name for name, moment in commands for verb in moment.verbs}

    def is_command(self, moment: str) -> bool:
        """True if a journal counts `moment` under "any"."""
        return moment not in self.not_commands and "any" in self.covering(moment)

    def facts_at(self, moment: str) -> frozenset[str]:
        """The names that `where` may use at a moment. A client that has just connected has said nothing yet."""
        if moment == "connect":
            return frozenset({"client"})
        known = CONNECTION_FACTS | self.moments[moment].facts
        return known | (self.facts.keys() - {"header"}) if moment == "any" else known

    @property
    def placeholders(self) -> frozenset[str]:
        """The live placeholders that only this protocol has."""
        return frozenset[str]().union(*(moment.placeholders for moment in self.moments.values()))

    @property
    def answer(self) -> str:
        """The key of a fault that answers a client: `reply`, or `status`."""
        return "status" if any("status" in moment.faults for moment in self.moments.values()) else "reply"

    @property
    def has_hosts(self) -> bool:
        """True if a client asks for one of several hosts of the server."""
        return "authority" in self.facts
