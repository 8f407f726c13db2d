"""Checks that need more than one field of a scenario: keys that exclude each other, and keys without effect.

Each check reports its problems and goes on, so that the author sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from notnow import protocols
from notnow.errors import Problem, shown
from notnow.language import capacity, facts, knobs, limits
from notnow.language.advice import ONLY, is_counted, meant, unknown
from notnow.language.conditions import CONDITIONS, LIMITS, PER, SINCE, conditions, exclude, limit
from notnow.language.faults import ACTING_KEYS, FAULT_KEYS, GOES_ON, HEADER_NAME, SPOKEN_KEYS, spoken
from notnow.language.grammar import Document, Rule
from notnow.language.replies import REPLY_LINE, preliminary
from notnow.language.scenario import Phase
from notnow.language.toml_lines import Path
from notnow.protocols.fact import ValueNeverHeldError
from notnow.units import Span

_FRAMES = ("reset_stream", "goaway", "altsvc", "origin")
_NO_UNTIL = ("enter", "idle")


class Checks:
    """Checks a scenario whose fields are valid one by one.

    `document` is its file with the knobs put in; in the rules of `phases` the faults that they name are put in too.
    """

    def __init__(self, document: Document, phases: Sequence[Phase], report: knobs.Report, warn: knobs.Report) -> None:
        self.document, self.phases, self._report, self._warn = document, phases, report, warn
        self.protocol = protocols.get(document.protocol)
        self.moments = self.protocol.moments
        self._asked = 0  # characters of the texts in `where`, up to the rule that is being checked

    def report(self, path: Path, found: str, allowed: str) -> None:
        self._report(path, Problem(found, allowed=allowed))

    def run(self) -> None:
        self._server()
        for path, problem in capacity.problems(self.document, self.phases):
            self._report(path, problem)
        last = len(self.phases) - 1
        for i, phase in enumerate(self.phases):
            self._phase(phase, ("phase", i), final=i == last and not self.document.repeat)
            for j, rule in enumerate(phase.rules):
                self._rule(rule, phase, ("phase", i, "rule", j))

    def _server(self) -> None:
        """Keys of `[server]` and `[expect]` that only some protocols have."""
        server, expect = self.document.server, self.document.expect
        for table, values in (("server", server), ("expect", expect)):
            for key, names in ONLY[table].items():
                if getattr(values, key) is not None and self.protocol.name not in names:
                    whose = " and ".join(name.upper() for name in names)
                    found = f"{key!r} is for {whose} servers"
                    self.report((table, key), found, f"remove it; this scenario is for {self.protocol.name}")
        modes = self.protocol.tls_modes
        if server.tls not in modes:
            self._report(("server", "tls"), unknown("tls mode", server.tls, modes))

    def _phase(self, phase: Phase, path: Path, final: bool) -> None:
        if final and (phase.lasts is not None or phase.until):
            key = "lasts" if phase.lasts is not None else "until"
            allowed = f"no {key!r} here, a further [[phase]], or repeat = true"
            self.report((*path, key), "the last phase never ends", allowed)
        for moment in phase.until:
            self._moment(moment, (*path, "until", moment), but=_NO_UNTIL)

    def _moment(self, name: str, path: Path, but: tuple[str, ...] = ()) -> None:
        allowed = [m for m in self.moments if m not in but]
        if name not in allowed:
            self._report(path, unknown("moment", name, allowed))

    def _rule(self, rule: Rule, phase: Phase, path: Path) -> None:
        for name in rule.on:
            self._moment(name, (*path, "on"))
        if not all(name in self.moments for name in rule.on):
            return
        self._faults(rule, path)
        self._together(rule, path)
        self._live(rule, phase, path)
        self._where(rule, path)
        self._idle(rule, path)
        self._misplaced(rule, path)
        self._over(rule, path)
        self._later(rule, path)
        self._counts(rule, path)
        self._per(rule, path)

    # ---- faults --------------------------------------------------------------------------------

    def _at(self, rule: Rule, path: Path, key: str) -> Path:
        """The path of a key of a rule: in the rule itself, or in the fault that the rule names."""
        _, i, _, j = path
        own = self.document.phase[int(i)].rule[int(j)]
        named = self.document.fault.get(rule.fault or "")
        if named is not None and getattr(own, key) is None and getattr(named, key) is not None:
            return ("fault", str(rule.fault), key)
        return (*path, key)

    def _faults(self, rule: Rule, path: Path) -> None:
        for key in FAULT_KEYS:
            if getattr(rule, key) is None:
                continue
            for name in rule.on:
                if key not in self.moments[name].faults:
                    may = sorted(self.moments[name].faults)
                    found = f"{key!r} cannot be done at {name!r}"
                    problem = Problem(found, allowed=", ".join(may), nearest=meant("key", key, may))
                    self._report(self._at(rule, path, key), problem)
        certificates = self.document.certificate
        if rule.certificate is not None and rule.certificate not in certificates:
            problem = unknown("certificate", rule.certificate, certificates)
            self._report(self._at(rule, path, "certificate"), problem)

    def _together(self, rule: Rule, path: Path) -> None:
        """Keys of one fault that contradict each other, or have no effect beside each other."""
        unasked = any(self.moments[name].unasked for name in rule.on)
        answer = self.protocol.answer
        first, final = preliminary(rule.reply)
        spoken = final is not None or rule.status is not None or rule.body is not None
        acts = rule.reply or rule.close or any(getattr(rule, key) for key in _FRAMES)
        silent = rule.stall or (not spoken and (rule.close or rule.reset_stream or unasked or "body" in rule.on))
        complaints = {
            "stall": (
                rule.stall and (spoken or rule.close or rule.reset_stream),
                "a stalled answer has no reply and no close",
                "one of them",
            ),
            "delay": (
                rule.delay and (rule.stall or (unasked and not acts)),
                "there is nothing to delay",
                f"a {answer} or a close beside it, and no stall",
            ),
            "drip": (
                rule.drip and silent,
                "the fake says nothing that could drip",
                f"a {answer} beside it, and no stall",
            ),
            "keep": (
                rule.keep is not None and not (spoken or rule.close or rule.reset_stream or rule.goaway),
                f"'keep' goes with a {answer} or a close"
                if not rule.stall
                else "a request without an answer has no effect to keep",
                f"{answer} or close beside it" + (", and no stall" if rule.stall else ""),
            ),
            "after_bytes": (
                rule.after_bytes is not None and not any(getattr(rule, key) for key in ACTING_KEYS),
                "nothing is done after these bytes",
                f"beside it one of {', '.join(key for key in ACTING_KEYS if all(key in self.moments[m].faults for m in rule.on))}",
            ),
            "status": (
                rule.status is not None and rule.after_bytes is not None and "response" in rule.on,
                "the head of the answer has left before these bytes",
                "no 'after_bytes' beside it, or a reset_stream, close or stall",
            ),
            "certificate": (
                rule.certificate and (rule.alert or rule.close),
                "a handshake that is refused shows no certificate",
                "no alert and no close beside it",
            ),
        }
        if rule.reply is not None:
            self._lines(rule, path, unasked, first)
        for key, (wrong, found, allowed) in complaints.items():
            if wrong:
                self.report(self._at(rule, path, key), found, allowed)
        if rule.data is not None:
            self._data(rule, path, unasked)

    def _lines(self, rule: Rule, path: Path, unasked: bool, first: tuple[str, ...]) -> None:
        """1yz replies, and free text in the middle of a reply, which only FTP has (RFC 959 §4.2; not RFC 5321 §4.2.1)."""
        place = self._at(rule, path, "reply")
        free = next((line for line in rule.reply or () if not REPLY_LINE.fullmatch(line)), None)
        if self.protocol.answer == "reply" and not self.protocol.free_text_replies and (first or free is not None):
            found = f"found {first[0]!r}" if first else f"found {free!r} in the middle of a reply"
            allowed = "2yz to 5yz (RFC 5321 §4.2.1)" if first else "the code and '-' on every line (RFC 5321 §4.2.1)"
            self.report(place, found, allowed)
        elif first and (unasked or any(self._of_transfer(name) for name in rule.on) or rule.after_bytes is not None):
            allowed = "the reply that follows it; the 150 of a transfer is said as it begins"
            self.report(place, f"found {first[0]!r}: a 1yz is said before the answer to a command", allowed)

    def _of_transfer(self, name: str) -> bool:
        moment = self.moments[name]
        return moment.lasts or moment.amid or moment.ends

    def _data(self, rule: Rule, path: Path, unasked: bool) -> None:
        """`data` needs a data connection that can end so, and fits the rest of the fault."""
        announces = any(self.moments[name].placeholders for name in rule.on)
        said = rule.reply is not None or rule.close
        good = rule.reply is not None and (preliminary(rule.reply)[1] or ("2",))[0][0] in "23"
        complaint = None
        if rule.stall or (unasked and not said):
            complaint = "nothing ends the transfer", "a reply or a close beside it, and no stall"
        elif rule.data == "drop" and not announces:
            complaint = "no data connection can end so here", "fin, reset, drain; drop only at pasv and epsv"
        elif rule.data in GOES_ON and not all(self.moments[name].lasts or self.moments[name].amid for name in rule.on):
            complaint = "no transfer goes on here", "at a transfer (retr, stor, …)"
        elif rule.data == "open" and (rule.after_bytes is None or rule.reply is None or rule.keep is not None):
            complaint = (
                "a transfer that goes on needs a reply that comes before its end",
                "after_bytes and a reply, no keep",
            )
        elif rule.data == "open" and (rule.close or (rule.close is None and _says_421(rule))):
            complaint = "the control connection closes, and the transfer ends with it", "a reply that does not close"
        elif rule.data == "ragged" and (rule.after_bytes is not None or not (good if said else True) or rule.close):
            complaint = "a transfer that is cut has no close_notify anyway", "fin, reset, drain"
        elif announces and said and not (good if rule.keep is None else rule.keep):
            complaint = "the reply announces no data connection that could end", "a 2yz or keep = true beside it"
        elif rule.keep and not announces and not unasked and rule.after_bytes is None:
            complaint = (
                "a transfer that ends at once leaves nothing to keep",
                "after_bytes beside it, or no 'keep'",
            )
        if complaint:
            self.report(self._at(rule, path, "data"), *complaint)

    def _live(self, rule: Rule, phase: Phase, path: Path) -> None:
        """Placeholders that have no value in this rule."""
        for key in SPOKEN_KEYS:
            used = set().union(*map(knobs.live_names, spoken(rule, key)))
            self._placeholders(used, rule, phase, self._at(rule, path, key))

    def _placeholders(self, used: set[str], rule: Rule, phase: Phase, place: Path) -> None:
        if phase.lasts is None:
            for name in sorted(n for n in used if n.startswith("left.")):
                self.report(place, f"{{{name}}}: this phase ends at no fixed time", "lasts = … in its [[phase]]")
        for name in sorted(used & knobs.LATE):
            if unaware := [moment for moment in rule.on if name not in self.moments[moment].placeholders]:
                at = ", ".join(m for m in self.moments if name in self.moments[m].placeholders) or "no moment"
                self.report(place, f"{{{name}}} is not known at {unaware[0]!r}", f"at {at}")
        if "limit" in used and limit(rule) is None and not knobs.tells_quota(used):
            self.report(place, "{limit}: this rule has no number", f"one of {', '.join(LIMITS)} beside it")
        for name in sorted(n for n in used if knobs.tells_quota({n})):
            self._quota(name, rule, phase, place)

    def _quota(self, name: str, rule: Rule, phase: Phase, place: Path) -> None:
        """A placeholder for a quota needs a rule with a quota: this one, or another at each of its moments."""
        counted = name == "remaining"
        told = "remaining" if counted else "wait"
        for moment in () if _tells(rule, told) else rule.on:
            covers = self.protocol.covering(moment)
            if not any(_tells(other, told) and covers.intersection(other.on) for other in phase.rules):
                what = "how many more it lets through" if counted else "when it lets a client through again"
                need = "over = N or after = N" if counted else 'within = "1m" beside over, or first = "1m"'
                found = f"{{{name}}}: no rule of this phase at {moment!r} knows {what}"
                return self.report(place, found, f"{need}, in this rule or in one at {moment!r}")
        return None

    # ---- where ---------------------------------------------------------------------------------

    def _where(self, rule: Rule, path: Path) -> None:
        before, self._asked = self._asked, self._asked + facts.size(rule.where or {})
        if self._asked > limits.PATTERNS:
            if before <= limits.PATTERNS:
                found = f"the texts in 'where' are too long together, from here on: {self._asked:,} characters"
                allowed = (
                    f"{limits.PATTERNS:,} characters in all rules, {limits.PER_PATTERN} more for each text included"
                )
                self.report((*path, "where"), found, allowed)
            return
        for name, wanted in (rule.where or {}).items():
            place = (*path, "where", name)
            unaware = [moment for moment in rule.on if name not in self.protocol.facts_at(moment)]
            if name not in self.protocol.facts:
                self._report(place, facts.unknown(self.protocol.name, name))
            elif unaware:
                at = ", ".join(m for m in self.moments if name in self.protocol.facts_at(m))
                self.report(place, f"{name!r} is not known at {unaware[0]!r}", f"at {at}")
            elif name == "header":
                self._headers(wanted, rule, place)
            else:
                self._wanted(name, wanted, rule, place)

    def _headers(self, wanted: Any, rule: Rule, path: Path) -> None:
        if not isinstance(wanted, Mapping) or not wanted:
            self.report(path, f"found {shown(wanted)}", 'header.NAME, such as header.subject = "*sale*"')
            return
        for header, value in wanted.items():
            if not HEADER_NAME.fullmatch(header):
                allowed = "the name of a header field (RFC 9110 §5.1), without its colon and without spaces"
                self._report((*path, header), Problem(f"found {header!r}", allowed=allowed))
            self._wanted("header", value, rule, (*path, header))

    def _wanted(self, name: str, wanted: Any, rule: Rule, path: Path) -> None:
        """Each wanted value is one that the fact can have at one of the rule's moments."""
        items = wanted if isinstance(wanted, list) else [wanted]
        for item in items or [wanted]:
            try:
                facts.read(self.protocol.name, name, rule.on, item)
            except ValueNeverHeldError as error:
                self._report(path, Problem(f"found {shown(item)}", allowed=str(error), nearest=error.nearest))
            else:
                if doubt := facts.doubt(self.protocol.name, name, item):
                    self._warn(path, Problem(f"found {shown(item)}", hint=doubt))

    # ---- conditions ----------------------------------------------------------------------------

    def _idle(self, rule: Rule, path: Path) -> None:
        idle = "idle" in rule.on
        if idle and len(rule.on) > 1:
            self.report((*path, "on"), "'idle' stands alone", "a rule of its own for 'idle'")
        if idle and not isinstance(rule.after, Span):
            self.report(
                (*path, "after") if rule.after else path, "'idle' needs the length of the silence", 'after = "5m"'
            )
        if rule.since is not None and not idle:
            self.report((*path, "since"), "'since' goes with on = \"idle\"", "remove it")
        if rule.since == "transfer" and "transfer" not in self.moments:
            self.report((*path, "since"), "found 'transfer'", ", ".join(word for word in SINCE if word != "transfer"))

    def _misplaced(self, rule: Rule, path: Path) -> None:
        """Conditions that have nothing to count at one of the rule's moments."""
        for key, condition in conditions(rule).items():
            for name in condition.never_at.intersection(rule.on):
                allowed = [other for other, row in CONDITIONS.items() if name not in row.never_at]
                self.report(
                    (*path, key), f"{key!r} counts nothing at {name!r}", ", ".join([*allowed, "where", "chance"])
                )

    def _over(self, rule: Rule, path: Path) -> None:
        if rule.within is not None and rule.over is None:
            self.report((*path, "within"), "'within' goes with 'over'", "over = N beside it")
        if rule.over is None or rule.within is not None or "idle" in rule.on:
            return
        lasting = [name for name in rule.on if self.moments[name].lasts]
        if lasting and len(lasting) < len(rule.on):
            other = next(name for name in rule.on if name not in lasting)
            found = f"'over' counts what is in progress at {lasting[0]!r}, and connections at {other!r}"
            self.report((*path, "on"), found, "a rule for each")
        if rule.over and not lasting and "connection" in rule.per:
            found = "'over' counts connections here, and a connection counts as one"
            self.report((*path, "per"), found, "no 'connection'; or nth, first, after, which count events")

    def _later(self, rule: Rule, path: Path) -> None:
        """A rule at a transfer whose `where` names a later fact is decided later: see `notnow.engine.compiling`."""
        if not any(self.moments[at].lasts for at in rule.on):
            return
        known = self.protocol.facts
        for name in (name for name in rule.where or () if name in known and known[name].decided_at):
            for key, given in (("after_bytes", rule.after_bytes), ("over", rule.over)):
                if given is not None:
                    found = f"{name!r} has this rule decided at {known[name].decided_at!r}, and {key!r} is decided at the command"
                    self.report(self._at(rule, path, key), found, f"no {key!r} here, or no {name!r} in where")

    def _counts(self, rule: Rule, path: Path) -> None:
        """Two conditions that no event can satisfy together."""
        for (key, one), (other_key, other) in combinations(conditions(rule).items(), 2):
            if exclude(one, other):
                found = f"this rule never acts: {one.words()}, and {other.words()}"
                self.report((*path, key), found, f"one of {key!r} and {other_key!r}")
        self._once(rule, path)

    def _once(self, rule: Rule, path: Path) -> None:
        """A connection is accepted once, and its TLS handshake comes once: there is no second event to count."""
        if "connection" not in rule.per or not set(rule.on) <= {"connect", "tls"}:
            return
        most = len(set(rule.on))
        for key, condition in conditions(rule).items():
            if condition.events[0] > most:
                found = f"a connection has {most} {' and '.join(rule.on)}, so this rule never acts"
                self.report((*path, key), found, 'per = "client" or "server", or a moment that comes again')

    def _per(self, rule: Rule, path: Path) -> None:
        for name in rule.per:
            unaware = next((moment for moment in rule.on if not is_counted(self.protocol.name, moment, name)), None)
            if unaware is not None:
                allowed = [per for per in PER if is_counted(self.protocol.name, unaware, per)]
                found = f"{name!r} is not known at {unaware!r}"
                self._report((*path, "per"), Problem(found, allowed=", ".join(allowed)))


def _says_421(rule: Rule) -> bool:
    return any(line[:4] in ("421 ", "421") for line in rule.reply or ())


def _tells(rule: Rule, what: str) -> bool:
    """True if a condition of this rule has a quota with this field."""
    return any(what in condition.tells for condition in conditions(rule).values())
