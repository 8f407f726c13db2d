"""A scenario in plain words: its phases, its rules, and what a good client does.

The words describe what the engine plays (`notnow.engine.plans`), not the text of the file, so that they match
what the fake does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from notnow import protocols
from notnow.conduct import expected
from notnow.engine.actions import (
    Action,
    Alert,
    AltSvc,
    Certify,
    Close,
    EndData,
    GoAway,
    Hang,
    Origin,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Send,
    Wait,
    Watch,
)
from notnow.engine.compiling import compile_phases
from notnow.engine.plans import CompiledPhase, CompiledRule
from notnow.http_words import status_line
from notnow.language.catalogue import is_pattern
from notnow.language.conditions import conditions
from notnow.language.grammar import Rule
from notnow.language.scenario import Phase, Scenario
from notnow.language.toml_lines import key_lines
from notnow.protocols.fact import Comparison
from notnow.protocols.ftp import DataEnding
from notnow.units import ordinal, parse_duration, parse_percent, parse_rate, plural, show, show_rate, show_size


@dataclass(frozen=True, slots=True)
class RuleWords:
    """A rule: when it acts, what the fake then does, and the lines that it replies."""

    when: str
    does: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhaseWords:
    name: str
    ends: str
    rules: tuple[RuleWords, ...]


@dataclass(frozen=True, slots=True)
class Knob:
    """A knob of a scenario: its default as in TOML, its type, and its comment in the file."""

    name: str
    default: str
    kind: str
    comment: str


def phases(scenario: Scenario) -> list[PhaseWords]:
    """The phases of a scenario, in order."""
    last = len(scenario.phases) - 1
    compiled = compile_phases(scenario)
    return [
        PhaseWords(phase.name, _ends(phase, i == last, scenario), tuple(_rules(scenario, phase, compiled[i])))
        for i, phase in enumerate(scenario.phases)
    ]


def server(scenario: Scenario) -> list[str]:
    """The settings of the server that the scenario makes."""
    made, words = scenario.server, []
    if made.tls != "none":
        words.append(f"The server speaks TLS: {made.tls}.")
    if made.users is not None:
        known = [f"{name} (password {password})" for name, password in made.users.items()]
        words.append(f"Only {_listed(known)} may log in." if known else "Nobody may log in.")
    if made.files is not None:
        words.append(f"It holds {_listed(list(made.files)) if made.files else 'no files'}.")
    if made.max_streams is not None:
        most = "1 request" if made.max_streams == 1 else f"{made.max_streams} requests"
        words.append(f"It allows {most} at a time on one connection; one more is refused.")
    if made.h3 == "silent":
        words.append("Its UDP port counts QUIC Initial packets and answers none of them.")
    if made.quota is not None:
        words.append(f"It has room for {show_size(made.quota)}.")
    words += _capacity(scenario)
    return words


def _capacity(scenario: Scenario) -> Iterator[str]:
    made = scenario.server
    if made.capacity is None:
        return
    work = " and ".join(made.work or (protocols.get(scenario.protocol).work,))
    yield f"Its capacity is {show_rate(made.capacity)}, a unit of work for each {work}; the answer waits until its work is done."
    if made.queue is not None:
        yield f"{plural(made.queue, 'unit')} may wait behind the one that is being done; with more, the queue is full."
    if made.refusal_cost:
        yield f"A refusal costs {made.refusal_cost * 100:g}% of a unit."


def _ends(phase: Phase, is_last: bool, scenario: Scenario) -> str:
    ways = [f"for {show(phase.lasts)}"] if phase.lasts is not None else []
    ways += [f"until the {ordinal(n)} {moment}" for moment, n in phase.until.items()]
    if not ways and is_last and not scenario.repeat:
        return "from then on" if len(scenario.phases) > 1 else "all the time"
    text = " or ".join(ways) or "until next_phase() is called"
    return f"{text}, then from the start again" if is_last and len(scenario.phases) > 1 else text


# ---- rules -------------------------------------------------------------------------------------


def _rules(scenario: Scenario, phase: Phase, compiled: CompiledPhase) -> Iterator[RuleWords]:
    plans = [*compiled.plans.values(), *(timeout.plan for timeout in compiled.idle_timeouts)]
    by_index = {rule.index: rule for plan in plans for rule in plan.rules.values()}
    for index, rule in enumerate(phase.rules):
        fired = by_index[index]
        lines = [line for step in fired.steps for line in _said(step)]
        does = _does(fired)
        if rule.on == ("connect",):
            does = does.replace("lets it take effect", "lets the client in")
        yield RuleWords(_when(rule, scenario.protocol), does, tuple(lines))


def _said(step: Action) -> Iterator[str]:
    """The lines that a step sends to the client."""
    match step:
        case Send(lines) | Proceed(tuple(lines)):
            yield from lines
        case Respond(Response() as response) | Proceed(Response() as response):
            if response.status is not None:
                yield status_line(response.status)
            yield from (f"{name}: {value}" for name, value in response.headers)
            if response.body:
                yield from ("", *response.body.splitlines())
        case _:
            pass


def _when(rule: Rule, protocol: str) -> str:
    if "idle" in rule.on:
        since = {
            "connect": " since it connected",
            "transfer": " since its last transfer",
            "command": " since its last command, transfers or not",
        }.get(rule.since or "", "")
        at = f"after {show(float(rule.after or 0))} of silence{since}"
    else:
        at = f"at {' or '.join(rule.on)}"
    moments = protocols.get(protocol).moments
    lasting = any(moments[name].lasts for name in rule.on if name in moments)
    return ", ".join([at, *_counting(rule, lasting), *_limits(rule)])


def _counting(rule: Rule, lasting: bool) -> Iterator[str]:
    """The conditions on events and slots, with what they are counted for."""
    found = [one.words(lasting) for one in conditions(rule).values() if one.counts != "firings"]
    yield from found
    if found and rule.per != ("server",):
        yield f"counted for each {_listed(rule.per)}"


def _limits(rule: Rule) -> Iterator[str]:
    for name, wanted in (rule.where or {}).items():
        if isinstance(wanted, Mapping):
            yield from (f"if the {name} {key} {_is(value)}" for key, value in wanted.items())
        elif name == "misdirected":
            yield f"if {_either(wanted, lambda why: _MISDIRECTED.get(why, f'misdirected {_match(why)}'))}"
        else:
            yield f"if {name} {_is(wanted)}"
    if rule.chance is not None:
        yield f"with a chance of {rule.chance * 100:g}%"
    for one in conditions(rule).values():
        if one.counts == "firings":
            yield one.words() + ("" if rule.per == ("server",) else f" for each {_listed(rule.per)}")


_MISDIRECTED = {
    True: "it is on the wrong connection",
    "sni": "its host is not the SNI",
    "certificate": "the certificate does not cover its host",
    "none": "it is on the right connection",
}


def _is(wanted: Any) -> str:
    return _either(wanted, _match)


def _either(wanted: Any, word: Callable[[Any], str]) -> str:
    many = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    return " or ".join(map(word, many))


def _match(wanted: Any) -> str:
    if wanted in ("none", "*"):
        return "is absent" if wanted == "none" else "is present"
    if isinstance(wanted, Comparison):
        return f"is {wanted}"
    return f"is like {wanted}" if isinstance(wanted, str) and is_pattern(wanted) else f"is {_toml(wanted)}"


def _does(fired: CompiledRule) -> str:
    told = fired.steps if not fired.definition.certificate else [step for step in fired.steps if step != Proceed()]
    steps = [word for step in told if (word := _step(step))]
    after = fired.definition.after_bytes
    late = f"once {after} bytes have passed, " if after is not None else ""
    if fired.steps == (Proceed(),):
        return late + "behaves: an exception to the rules after it"
    return late + (", then ".join(steps) or "behaves")


def _step(step: Action) -> str:
    match step:
        case Wait(seconds):
            return f"waits {show(seconds)}"
        case Certify(name):
            return f"shows the certificate {name!r}"
        case Alert(name):
            return f"refuses the handshake with the TLS alert {name}"
        case Hang():
            return "never answers"
        case Send(_, drip):
            return "says" + _dripping(drip)
        case Proceed(instead, drip):
            return _proceeds(instead) + _dripping(drip)
        case EndData(how):
            return _data_ends(how)
        case Close(how):
            return {
                "fin": "closes",
                "reset": "resets the connection (RST)",
                "abrupt": "closes abruptly, even with bytes in flight",
            }[how]
        case Watch():
            return ""
        case _:
            return _http_step(step)


def _proceeds(instead: tuple[str, ...] | Response | None) -> str:
    match instead:
        case None:
            return "behaves"
        case ():
            return "lets it take effect without a reply"
        case Response(status=None):
            return "behaves, and adds"
        case Response():
            return "lets it take effect, and answers"
        case _:
            return "lets it take effect, and says"


def _http_step(step: Respond | ResetStream | GoAway | AltSvc | Origin) -> str:
    match step:
        case Respond(_, drip):
            return "answers" + _dripping(drip)
        case ResetStream(code):
            return f"resets the stream (RST_STREAM {code})"
        case GoAway(code, last):
            return f"sends GOAWAY {code}" + _last_stream(last)
        case AltSvc(value):
            return f"names an alternative service: {value}"
        case Origin(origins):
            return f"declares the connection good for {_listed(origins)} (ORIGIN)"
        case _:
            assert_never(step)


def _data_ends(how: DataEnding) -> str:
    return {
        "fin": "closes the data connection",
        "reset": "resets the data connection (RST)",
        "drain": "half-closes the data connection and drops further data",
        "drop": "blocks the data port",
        "open": "lets the transfer go on",
        "ragged": "ends the TLS of the data connection without a close_notify",
    }[how]


def _last_stream(last: int | str) -> str:
    """What a GOAWAY says about the requests in progress."""
    if last == "previous":
        return ", this request not served"
    return "" if last == "current" else f", no stream above {last} served"


def _dripping(drip: float) -> str:
    return f" byte by byte ({show(drip)} apart)" if drip else ""


# ---- knobs, faults, sources --------------------------------------------------------------------


def knobs(scenario: Scenario) -> list[Knob]:
    """The knobs of a scenario."""
    lines, text = key_lines(scenario.text), scenario.text.splitlines()
    return [
        Knob(
            name,
            _toml(value),
            "choice" if value in scenario.faults else _kind(value),
            _comment(text, lines.get(("params", name))),
        )
        for name, value in scenario.knobs.items()
    ]


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_toml, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, (int, float)):
        return "whole number" if isinstance(default, int) else "number"
    if isinstance(default, list):
        return "list"
    if parse_duration(default) is not None:
        return "duration"
    if parse_rate(default) is not None:
        return "rate"
    return "percentage" if parse_percent(default) is not None else "text"


def _comment(text: Sequence[str], number: int | None) -> str:
    """The comment after the key on this line (from 1), and those on the lines just above."""
    if number is None:
        return ""
    found = [behind] if (behind := _behind(text[number - 1])) else []
    for line in reversed(text[: number - 1]):
        if not line.lstrip().startswith("#"):
            break
        found.insert(0, line.strip().lstrip("#").strip())
    return " ".join(found)


def _behind(line: str) -> str:
    quote = ""
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c == "#":
            return line[i + 1 :].strip()
    return ""


def faults(scenario: Scenario) -> list[tuple[str, str]]:
    """The named faults, and what each replies or does, as in the file."""
    table = tomllib.loads(scenario.text).get("fault", {})
    return [(name, _fault(table[name])) for name in scenario.faults]


def _fault(fault: Mapping[str, Any]) -> str:
    reply = fault.get("reply", ())
    said = " / ".join([reply] if isinstance(reply, str) else reply)
    rest = ", ".join(_pair(key, value) for key, value in fault.items() if key != "reply")
    return f"{said}  ({rest})" if said and rest else said or rest


def _pair(key: str, value: Any) -> str:
    """A key of a fault with its value: headers as they are sent, and only the first line of a longer text."""
    if key == "headers":
        return ", ".join(f"{name}: {_toml(one)}" for name, one in value.items())
    first, *rest = str(_toml(value)).strip().splitlines() or [""]
    return f"{key} = {first}{' …' if rest else ''}"


def expectations(scenario: Scenario) -> list[str]:
    """What a well-behaved client does here."""
    return [expected.in_words(scenario, key) for key in expected.keys(scenario)]


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
