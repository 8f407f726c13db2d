"""Warnings about keys that are legal and can have no effect; `notnow check` prints them.

A rule that no event reaches, a certificate that nobody is shown, a text that looks like a size. A number that a knob
brings is not looked at: its default may well switch a rule off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from notnow import protocols
from notnow.errors import Problem
from notnow.language.conditions import CONDITIONS, conditions
from notnow.language.facts import ABSENT
from notnow.language.grammar import Document, Rule
from notnow.language.knobs import Report
from notnow.language.scenario import Phase
from notnow.language.toml_lines import Path
from notnow.protocols.fact import glob
from notnow.units import parse_size, show

_LOOKS_LIKE_A_SIZE = re.compile(r"\s*([0-9][0-9._,]*)\s*(bytes?|b|[kmgt]i?b?)\s*", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"""clear|[^\s="]+="[^"]*"(\s*[;,]\s*[^\s="]+=("[^"]*"|[^\s;,"]+))*""")  # RFC 7838 §3
_NO_CONTENT = (204, 205, 304)  # RFC 9110 §15.3.5, §15.3.6, §15.4.5
_ENCRYPTED = ("sni", "misdirected")


class Doubts:
    """Looks for doubts in a valid scenario. `raw` is its file before the knobs were filled in."""

    def __init__(self, document: Document, phases: Sequence[Phase], raw: Mapping[str, Any], warn: Report) -> None:
        self.document, self.phases, self.raw, self._warn = document, phases, raw, warn
        self.protocol, self.server = protocols.get(document.protocol), document.server
        self.moments = self.protocol.moments
        self.rules = [rule for phase in phases for rule in phase.rules]

    def warn(self, path: Path, found: str, hint: str, about: str = "", near: str | None = None) -> None:
        self._warn(path, Problem(found, hint=hint, about=about, nearest=near))

    def run(self) -> None:
        self._files()
        self._certificates()
        self._expectations()
        self._queue()
        for i, phase in enumerate(self.phases):
            self._until(phase, ("phase", i))
            for j, rule in enumerate(phase.rules):
                self._rule(rule, phase, ("phase", i, "rule", j))
            self._shadows(phase, ("phase", i))

    def _by_knob(self, *path: str | int) -> bool:
        """True if the value at a path contains a knob."""
        node: Any = self.raw
        for part in path:
            found = isinstance(node, list) and isinstance(part, int) and part < len(node)
            if not found and not (isinstance(node, dict) and part in node):
                return False
            node = node[part]
        return _has_placeholder(node)

    # ---- server, certificates, expectations ------------------------------------------------------

    def _files(self) -> None:
        for name, content in (self.server.files or {}).items():
            match = _LOOKS_LIKE_A_SIZE.fullmatch(content)
            if match and parse_size(content) is None:
                number, unit = match[1].replace(",", ".").replace("_", ""), match[2].upper()[0]
                near = f"{number}{unit if unit == 'B' else unit + 'B'}"
                found = f"the text {content!r}, of {len(content.encode())} bytes, looks like a size"
                meant = near if parse_size(near) is not None else None
                self.warn(("server", "files", name), found, 'a size is written "3MB"', near=meant)

    def _certificates(self) -> None:
        certificates = self.document.certificate
        if certificates and self.server.tls == "none":
            name = next(iter(certificates))
            self._no_tls(("certificate", name), "no client is shown a certificate")
            return
        named = {rule.certificate for rule in self.rules}
        seen: set[str] = set()
        for i, (name, certificate) in enumerate(certificates.items()):
            names = {host.lower() for host in certificate.names}
            if i and names <= seen and name not in named and not self._chosen_by_knob():
                found = f"no client is shown the certificate {name!r}: those before it have all its names"
                self.warn(("certificate", name), found, f'certificate = "{name}" in a rule at "tls", or other names')
            seen |= names

    def _queue(self) -> None:
        """A bound that nothing looks at."""
        used = self.server.refusal_cost or any(rule.busy is not None for rule in self.rules)
        if self.server.queue is not None and not used:
            found = "nobody is refused when the queue is full: it grows"
            self.warn(("server", "queue"), found, 'a rule with busy = true, such as one at "connect"')

    def _chosen_by_knob(self) -> bool:
        return any("{" in str(rule.get("certificate", "")) for rule in _rules(self.raw)) or any(
            "{" in str(fault.get("certificate", "")) for fault in self.raw.get("fault", {}).values()
        )

    def _expectations(self) -> None:
        expect, path = self.document.expect, ("expect", "new_connection_after")
        code = expect.new_connection_after.code if expect.new_connection_after is not None else None
        if code is not None and not self._by_knob(*path) and not self._by_knob("phase") and not self._by_knob("fault"):
            said = {int(line[:3]) for rule in self.rules for line in rule.reply or ()}
            said |= {rule.status for rule in self.rules if rule.status is not None}
            if said and code not in said:
                replies = ", ".join(map(str, sorted(said)))
                self.warn(path, f"no rule says {code}", f"the rules say {replies}")
        self._delays()
        if expect.delivered is not None and expect.gave_up is not None:
            found = "a client that gave up has not delivered everything"
            self.warn(("expect", "gave_up"), found, "expect either 'delivered' or 'gave_up'")

    def _delays(self) -> None:
        retried = self.document.expect.retried
        within, delay = (retried.within, retried.first_delay) if retried is not None else (None, None)
        if within is not None and delay is not None and within < delay and not self._by_knob("expect"):
            found = f"a client that waits {show(delay)} first is not back within {show(within)}"
            self.warn(("expect", "retried", "within"), found, "a longer 'within', or a shorter 'first_delay'")

    # ---- phases ----------------------------------------------------------------------------------

    def _until(self, phase: Phase, path: Path) -> None:
        for moment in phase.until:
            if self._never_comes(moment):
                self._no_tls((*path, "until", moment), f"the moment {moment!r} never comes")

    def _never_comes(self, moment: str) -> bool:
        if moment == "tls":
            return self.server.tls == "none"
        return moment == "starttls" and self.server.tls != "starttls"

    def _no_tls(self, path: Path, so: str) -> None:
        modes = " or ".join(f'"{mode}"' for mode in self.protocol.tls_modes if mode != "none")
        modes = '"starttls"' if "'starttls'" in so else modes
        self.warn(path, f'{so}, since tls = "{self.server.tls}"', f"set tls = {modes} in [server]", about="tls")

    def _shadows(self, phase: Phase, path: Path) -> None:
        """Rules that never act, because an earlier rule always matches first."""
        before: list[tuple[int, Rule]] = []
        for j, rule in enumerate(phase.rules):
            winners = [self._winner(rule, event, before) for event in self._events(rule)] if before else []
            if winners and all(winner is not None for winner in winners):
                first = ", ".join(sorted({f"rule[{i}]" for i in winners}))
                found = f"this rule never acts: {first} before it always wins"
                self.warn((*path, "rule", j), found, "put it first, or give the other a condition")
            if not self._numbers_by_knob((*path, "rule", j)):
                before.append((j, rule))

    def _events(self, rule: Rule) -> list[str]:
        """The moments whose events this rule may match; "" stands for commands without a moment of their own."""
        return [m for m in (*self.moments, "") if self.protocol.covering(m).intersection(rule.on)]

    def _winner(self, rule: Rule, event: str, before: list[tuple[int, Rule]]) -> int | None:
        cover = self.protocol.covering(event)
        return next((i for i, other in before if cover.intersection(other.on) and _wins(other, rule)), None)

    def _numbers_by_knob(self, path: Path) -> bool:
        keys = (*CONDITIONS, "within", "chance", "where")
        return self._by_knob(*path) and any(self._by_knob(*path, key) for key in keys)

    # ---- rules -----------------------------------------------------------------------------------

    def _rule(self, rule: Rule, phase: Phase, path: Path) -> None:
        for moment in rule.on if all(map(self._never_comes, rule.on)) else ():
            self._no_tls((*path, "on"), f"the moment {moment!r} never comes")
        self._encryption(rule, path)
        self._users(rule, path)
        self._counts(rule, phase, path)
        if rule.chance == 0 and not self._by_knob(*path, "chance"):
            self.warn((*path, "chance"), "found '0%': this rule never acts", "remove the rule, or name a chance")
        self._said(rule, path)

    def _encryption(self, rule: Rule, path: Path) -> None:
        where, tls = rule.where or {}, self.server.tls
        for name in _ENCRYPTED:
            if tls == "none" and name in where and ABSENT not in _items(where[name]):
                self._no_tls((*path, "where", name), f"{name!r} is always absent")
        if tls == "none" and "tls" in where and False not in _items(where["tls"]):
            self._no_tls((*path, "where", "tls"), "'tls' is always false")
        if tls == "implicit" and "tls" in where and True not in _items(where["tls"]):
            found = "'tls' is always true, since tls = \"implicit\""
            self.warn((*path, "where", "tls"), found, 'set tls = "starttls" or "none" in [server]', about="tls")

    def _users(self, rule: Rule, path: Path) -> None:
        """A rule that wants a user whom `[server]` does not have, at a moment after the login."""
        users, wanted = self.server.users, (rule.where or {}).get("user")
        claimed = any(self.moments[moment].claimed for moment in rule.on)
        if users is None or wanted is None or claimed or ABSENT in _items(wanted) or self._by_knob(*path, "where"):
            return
        if not any(glob(item)(user) for item in _items(wanted) for user in users):
            found = f"no user of [server] is called {' or '.join(map(repr, _items(wanted)))}"
            self.warn((*path, "where", "user"), found, f"there are {', '.join(users) or 'none'}", about="users")

    def _counts(self, rule: Rule, phase: Phase, path: Path) -> None:
        """Conditions that can hold only after the phase has ended."""
        lasts, most = phase.lasts, self._most_events(rule, phase)
        for key, condition in conditions(rule).items():
            begins, first = condition.seconds[0], condition.events[0]
            if self._by_knob(*path, key):
                continue
            if lasts is not None and begins >= lasts and not self._by_knob(*path[:2], "lasts"):
                found = (
                    f"this rule begins {show(begins)} after its first event, and its phase is over after {show(lasts)}"
                )
                self.warn((*path, key), found, f"a shorter {key!r}, or a longer 'lasts'")
            if most is not None and first > most:
                found = f"this rule waits for event {first}, and its phase is over after {most}"
                self.warn((*path, key), found, f"a smaller {key!r}, or a later end of the phase")

    def _most_events(self, rule: Rule, phase: Phase) -> int | None:
        """The most events of a rule that can come before `until` ends its phase; None if there is no such limit."""
        ends = [
            count
            for moment, count in phase.until.items()
            if all(moment in self.protocol.covering(event) for event in self._events(rule))
        ]
        return min(ends, default=None)

    def _said(self, rule: Rule, path: Path) -> None:
        place = (*path, "reply") if rule.fault is None else path
        longest = self.protocol.longest_reply
        for line in rule.reply or ():
            if longest is not None and len(line.encode()) > longest:
                found = f"a reply line of {len(line.encode())} bytes"
                self.warn(place, found, f"RFC 5321 §4.5.3.1.5 allows {longest} and the line end")
        if rule.altsvc is not None and "{" not in rule.altsvc and not _ALTERNATIVES.fullmatch(rule.altsvc.strip()):
            found = f"found {rule.altsvc!r}, which names no alternative"
            hint = 'RFC 7838 §3 writes h2="alt.test:443"; ma=60, or clear'
            self.warn((*path, "altsvc") if rule.fault is None else path, found, hint)
        if rule.status in _NO_CONTENT and rule.body:
            self.warn(
                path, f"a response {rule.status} has no content: the body is not sent", "another status, or no body"
            )


def _rules(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for phase in raw.get("phase", ()):
        yield from phase.get("rule", ())


def _has_placeholder(node: Any) -> bool:
    if isinstance(node, (list, dict)):
        return any(map(_has_placeholder, node.values() if isinstance(node, dict) else node))
    return isinstance(node, str) and "{" in node


def _items(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _wins(first: Rule, second: Rule) -> bool:
    """True if the first rule fires whenever the second could: the second has every condition of the first."""
    if first.chance not in (None, 1.0):
        return False
    if ("idle" in first.on or "idle" in second.on) and (first.after, first.since) != (second.after, second.since):
        return False
    mine, others = first.where or {}, second.where or {}
    if any(name not in others or others[name] != wanted for name, wanted in mine.items()):
        return False
    needed, given = conditions(first), conditions(second)
    if any(condition.counts == "firings" for condition in needed.values()):
        return False
    alike = (first.on, mine, first.per) == (second.on, others, second.per)
    return not needed or (alike and all(given.get(key) == condition for key, condition in needed.items()))
