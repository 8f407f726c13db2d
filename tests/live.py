"""Playing the catalogue over real sockets: what every protocol's scenarios have in common.

What it takes for the faults of a scenario to be met is in `live_smtp`, `live_ftp` and `live_http`, a `Case` for each that
needs one.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from notnow import ManualClock
from notnow.journal import Exchange
from notnow.language import catalogue

SPEED = 200  # for scenarios in which the fake itself is slow: a client's time-out is real
SEED = 7
MODES = ("starttls", "implicit")
Knobs = dict[str, object]


@dataclass
class Case:
    """What it takes for the faults of a scenario to be met.

    `knobs` make limits small. `client` are options of the careful client, and `work` is what it has to do. `holding`
    is what others do meanwhile, until the client waits for the first time, or to the end if it `stays`; it tells what
    they heard. `dawdle` is for how long the client is idle in its first session. `fast`: the fake takes its time, so
    the clock runs by itself. `witness` is a careless client, where a careful one never meets the fault; it tells what
    it heard.
    """

    knobs: Knobs = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    work: Any = None
    holding: Callable[[Any], AbstractContextManager[list[str]]] | None = None
    stays: bool = False
    dawdle: str | None = None
    fast: bool = False
    tls: bool = False
    witness: Callable[[Any], list[str]] | None = None

    def times_out(self, knobs: Knobs) -> bool:
        """True if nothing but a time-out of its own ends the client's wait."""
        return knobs.get("how") in ("stall", "dropped")


class Client(Protocol):
    """A careful client. `heard` are the replies that it got, `lost` the connections that ended without one."""

    heard: list[str]
    lost: list[BaseException]
    wait: Callable[[float], object]


@dataclass(frozen=True)
class Live:
    """What it takes to play the scenarios of a protocol over real sockets.

    `client` makes a careful client from a fake, a case, knobs and options of its own, and `deliver` has it do its
    work. In scenarios that are `silent`, the fake closes without an answer. `stages` are knobs called `stage`, `more` are
    further knobs to play a scenario with. In the `careless` ones, who does not come back has nothing delivered. `items` is
    how many the client has to get through, where that matters.
    """

    fake: type[Any]
    cases: Mapping[str, Case]
    silent: frozenset[str]
    stages: Mapping[str, Sequence[str]]
    more: Mapping[str, Sequence[Knobs]]
    careless: Sequence[str]
    client: Callable[..., Any]
    deliver: Callable[[Any, Case], bool]
    items: Callable[[Case], int | None] = lambda _case: None

    def case(self, name: str) -> Case:
        return self.cases.get(name, Case())


# Where no words of a refusal are to be heard.
UNSEEN = {
    "healthy": "there is no fault in it",
    "plain-on-tls-port": "the fault would be the client's; tests/test_tls.py speaks plain text to it",
    "slow-replies": "every reply is right, only late: asserted of the time it took",
    "stalled-greeting": "nothing is said, or a good greeting late: asserted of the lost connection, or the time",
    "stalled-transfer": "nothing is said: asserted of the lost connection",
    "alt-svc-h3": "no answer refuses anything: asserted of the header, and of the UDP port",
    "slow-drip": "every answer is right, only late: asserted of the time it took",
    "stalled": "nothing is said: asserted of the lost connection",
    "quota-exceeded": "there is no rule, the fake itself says it",
    "expired-certificate": "TLS says it: asserted of the handshake that failed",
    "untrusted-certificate": "TLS says it: asserted of the handshake that failed",
    "wrong-certificate": "TLS says it: asserted of the handshake that failed",
    "tls-handshake-refused": "TLS says it: asserted of the handshake that failed",
    "incomplete-chain": "TLS says it: asserted of the handshake that failed",
    "unrecognized-name": "TLS says it: asserted of the handshake that failed",
}


def unseen(name: str) -> str | None:
    """What a scenario is called among the `UNSEEN`; None if its words are heard."""
    what = name.partition("/")[2]
    return what if what in UNSEEN else None


def variants(live: Live, protocol: str) -> Iterator[tuple[str, Knobs]]:
    """Each scenario, with each of its named faults, at each of its stages."""
    for name in catalogue.names(f"{protocol}/*"):
        scenario = catalogue.scenario(name)
        choice = next((knob for knob, value in scenario.knobs.items() if value in scenario.faults), None)
        found: list[Knobs] = [{choice: fault} for fault in scenario.faults] if choice else [{}]
        found += [{"stage": stage} for stage in live.stages.get(name, [])]
        found += [{"mode": mode} for mode in MODES] if "mode" in scenario.knobs else []
        for knobs in [*found, *live.more.get(name, [])]:
            yield name, knobs


def promised(name: str, knobs: Knobs) -> list[str]:
    """What the file of a scenario says under these knobs, as patterns; its first fault is the first."""
    text = catalogue.locate(name).read_text("utf-8")
    document = tomllib.loads(text)
    values = {**document.get("params", {}), **knobs}
    chosen = {str(v) for v in values.values()} & set(document.get("fault", {}))
    tables = [document["fault"][c] for c in chosen]
    rules = [rule for phase in document.get("phase", []) for rule in phase.get("rule", [])]
    likeliest = max((_chance(rule, values) for rule in rules if "chance" in rule), default=100.0)
    tables += [
        rule
        for rule in rules
        if not {"reply", "status", "reset_stream", "goaway"}.isdisjoint(rule) and _chance(rule, values) >= likeliest
    ]
    found = []
    for table in tables:
        lines = table.get("reply", [])
        found.append([_pattern(line, values) for line in ([lines] if isinstance(lines, str) else lines)])
        found += [[_pattern(line, values) for line in text.splitlines()] for text in _of_http(table)]
    return ["\n".join(lines) for lines in found if lines]


def _chance(rule: Mapping[str, Any], values: Knobs) -> float:
    """How likely a rule fires, in per cent. What chance decides is sure to be heard only of the likeliest rules."""
    return float(str(values[rule["chance"].strip("{}")]).rstrip("%")) if "chance" in rule else 100.0


def _of_http(table: Mapping[str, Any]) -> Iterator[str]:
    """What a fault of HTTP says: a status, header by header, a body, a frame with its code."""
    if table.get("status", 0) >= 400:  # a good answer is no refusal, whatever it says
        yield str(table["status"])
        yield from (f"{name}: {value}" for name, value in table.get("headers", {}).items())
        yield table.get("body", "")
    if "reset_stream" in table:
        yield f"RST_STREAM {table['reset_stream']}"
    if "goaway" in table:
        yield f"GOAWAY {table['goaway']['code'] if isinstance(table['goaway'], Mapping) else table['goaway']}"


_NUMBERS = ("left.seconds", "left.ms", "wait.seconds", "limit", "p1", "p2", "data.port", "port")
_LIVE = {
    "host": r"fake\.notnow\.test",
    "client": r"127\.0\.0\.1",
    "left.date": r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",  # RFC 9110 §5.6.7
    **dict.fromkeys(_NUMBERS, "[0-9]+"),
}


def _pattern(line: str, values: Knobs) -> str:
    """A line of the file as a pattern, written down here once more rather than asked of the code under test."""
    pieces = re.split(r"\{([a-z0-9_.]+)\}", line)
    return "".join(
        _LIVE.get(p) or re.escape(_value(p, values)) if i % 2 else re.escape(p.replace("{{", "{").replace("}}", "}"))
        for i, p in enumerate(pieces)
    )


def _value(name: str, values: Knobs) -> str:
    base, dot, _ = name.partition(".seconds")
    return str(values[base]).removesuffix("s") if dot else str(values[base])


def waiting(clock: Any) -> Callable[[float], object]:
    """How a client waits between its tries."""
    return clock.advance if isinstance(clock, ManualClock) else lambda span: time.sleep(span / SPEED)


# ---- what was met --------------------------------------------------------------------------------


def assert_met(live: Live, name: str, knobs: Knobs, client: Client, said: str, fired: Sequence[Exchange]) -> None:
    """The scenario has shown what it is about. `said` is all that was heard, `fired` are the exchanges of its rules."""
    if (what := unseen(name)) is not None:
        _assert_met_unseen(what, knobs, client, said, fired)
        return
    assert fired, "no rule has fired"
    patterns = promised(name, knobs)
    for pattern in patterns:
        assert re.search(rf"(?m)^{pattern}$", said), f"{pattern!r} is not in\n{said}"
    if not patterns:
        assert any(x.closed and (x.unanswered or (x.facts and not x.facts.whole)) for x in fired), fired
        assert client.lost or live.case(name).witness


def _assert_met_unseen(what: str, knobs: Knobs, client: Client, said: str, fired: Sequence[Exchange]) -> None:
    if what == "alt-svc-h3":
        assert fired
        assert not client.lost
    elif what in ("healthy", "plain-on-tls-port"):
        assert not fired
        assert not client.lost
    elif what == "quota-exceeded":
        assert "\n552 " in said
    elif what in ("slow-replies", "slow-drip"):
        a_tick = 0.001 * SPEED  # uvloop's timers are good to a millisecond
        assert fired
        assert all(x.answered_at is not None and x.answered_at - x.at >= 2 - a_tick for x in fired)
    elif what == "stalled-greeting" and knobs["how"] == "late":
        assert fired[0].answered_at is not None
        assert fired[0].answered_at - fired[0].at >= 20
    else:
        assert fired
        assert re.search(_LOSSES[what.partition("-")[0]], repr(client.lost[0])), client.lost


_LOSSES = {  # how a connection is lost, as Python says it
    "expired": "has expired",
    "untrusted": "unable to get local issuer|self-signed",
    "wrong": "Hostname mismatch",
    "tls": "alert handshake failure|ALERT_HANDSHAKE_FAILURE",
    "stalled": "TimeoutError",
    "incomplete": "unable to get local issuer",
    "unrecognized": "(?i)unrecognized.name",
}
