"""Wait over HTTP until a server has seen something. These calls are made in the loop of the API, and hold no thread."""

from __future__ import annotations

from collections.abc import Mapping

from notnow import protocols
from notnow.control.calls import call
from notnow.control.fleet import Fleet
from notnow.control.models import LONGEST_WAIT, Sightings, parse_time
from notnow.control.problems import RefusedError
from notnow.errors import Problem, WaitTimeoutError, unknown
from notnow.journal import Journal
from notnow.servers.base.fake import Fake
from notnow.units import show

WAITS = 200  # at a time
TIMEOUT = 5.0  # real seconds, unless told otherwise
_waiting = 0


@call("GET", "/v1/servers/{name}/wait", errors=(404, 408, 503))
async def wait_for(fleet: Fleet, name: str, asked: Mapping[str, str]) -> Sightings:
    """Wait until each moment has come so often: `wait?connect=3&timeout=5s`, `wait?mail=1&phase=recovered`.

    Every moment of the protocol is a parameter, its value the number of times since the server was started or reset;
    `any` is any command. `phase` waits for a phase by its name. `timeout` is in real time, 5 s unless told otherwise; when
    it is over, the answer is 408 and says what was seen.
    """
    global _waiting
    fake = fleet.get(name).fake
    counts, phase, timeout = _read(fake, asked)

    def holds(journal: Journal) -> bool:
        return all(journal.count(moment) >= n for moment, n in counts.items()) and phase in (None, fake.phase)

    if _waiting >= WAITS:
        raise RefusedError(503, f"{WAITS} calls wait already, and there may be no more", retry_after="1")
    _waiting += 1
    try:
        await fake.await_for(holds, timeout)
    except WaitTimeoutError:
        raise RefusedError(408, _in_vain(fake, counts, phase, timeout)) from None
    finally:
        _waiting -= 1
    return Sightings(seen=_seen(fake, counts), phase=fake.phase)


def _read(fake: Fake, asked: Mapping[str, str]) -> tuple[dict[str, int], str | None, float]:
    """The moments with their counts, the phase, and the time-out. Raises RefusedError with every mistake."""
    known = protocols.get(fake.protocol)
    moments = sorted({*known.moments, *known.also_counted, "any"})
    counts: dict[str, int] = {}
    mistakes: list[Problem] = []
    for key, value in asked.items():
        if key in ("timeout", "phase"):
            continue
        if key not in moments:
            mistakes.append(unknown(f"moment of {fake.protocol}", key, [*moments, "phase", "timeout"]))
        elif not (value.isascii() and value.isdigit() and len(value) < 10):
            mistakes.append(Problem(f"found {value!r}", allowed="how often, as a whole number", key=key))
        else:
            counts[key] = int(value)
    phase = asked.get("phase")
    phases = list(dict.fromkeys(one.name for one in fake.scenario.phases))
    if phase is not None and phase not in phases:
        mistakes.append(unknown(f"phase of {fake.scenario.name}", phase, phases))
    if not counts and phase is None and not mistakes:
        mistakes.append(
            Problem("there is nothing to wait for", allowed="a moment and a number, such as connect=3; or phase=NAME")
        )
    timeout = _timeout(asked.get("timeout"), mistakes)
    if mistakes:
        raise RefusedError(422, "\n".join(map(str, mistakes)), mistakes)
    return counts, phase, timeout


def _timeout(text: str | None, mistakes: list[Problem]) -> float:
    if text is None:
        return TIMEOUT
    try:
        timeout = parse_time(text)
    except ValueError as error:
        found, _, allowed = str(error).partition("; allowed: ")
        mistakes.append(Problem(found, allowed=allowed, key="timeout"))
        return TIMEOUT
    if timeout > LONGEST_WAIT:
        mistakes.append(Problem(f"found {text!r}", allowed=f"{show(LONGEST_WAIT)} at most", key="timeout"))
    return timeout


def _seen(fake: Fake, counts: Mapping[str, int]) -> dict[str, int]:
    return {moment: fake.journal.count(moment) for moment in counts}


def _in_vain(fake: Fake, counts: Mapping[str, int], phase: str | None, timeout: float) -> str:
    seen = _seen(fake, counts)
    parts = [f"{moment}={n} (seen: {seen[moment]})" for moment, n in counts.items()]
    parts += [f"phase={phase} (it is {fake.phase})"] if phase is not None else []
    return f"waited {show(timeout)} in vain for {', '.join(parts)} on {fake.name}"
