"""What a fake did at an exchange, as the keys of a fault: from the rule that fired, if it is known, and the recorded words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from notnow.chaos.replay.entries import Line
from notnow.chaos.replay.played import fault
from notnow.chaos.replay.recording import Table, literal
from notnow.language import knobs

_LIVE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
# Placeholders that mean the same in the new scenario, and may differ from run to run.
_STAY = knobs.LATE | {"host", "client", "port"}
_CLIPPED = re.compile(r"… \(\d+ characters\)$")
_HEADERS = ("retry-after", "alt-svc", "location")  # of an answer, those that its facts hold
CLOSES = frozenset({421})  # a reply with this code closes on SMTP and FTP, unless told otherwise


def of_rule(rule: Mapping[str, Any], x: Line) -> Table:
    """The fault of a rule that fired at an exchange; words with placeholders are those that were said there."""
    found = fault(rule)
    if _is_live(found.get("reply")):
        found["reply"] = _said_last(found["reply"], x) or _bare(found["reply"])
    if "headers" in found:
        found["headers"] = {name: _header(name, value, x) for name, value in found["headers"].items()}
    for key in ("body", "altsvc"):
        if _is_live(found.get(key)):
            found[key] = _bare(found[key])
    return found


def _header(name: str, value: Any, x: Line) -> Any:
    if not _is_live(value):
        return value
    said = x.facts.get(name.lower())
    return _bare(value) if said is None else literal(str(said))


def _is_live(value: object) -> bool:
    """True if a text or a list of texts has placeholders that have no value in the new scenario, or another."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return any(one[1] not in (None, *_STAY) for text in texts for one in _LIVE.finditer(str(text)))


def _bare(value: Any) -> Any:
    """The same with a 0 for each placeholder whose value was not recorded."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return _LIVE.sub(lambda m: m[0] if m[1] in (None, *_STAY) else "0", str(value))


def _said_last(template: object, x: Line) -> str | list[str] | None:
    """As many lines as the template has, from the end of what was said: a transfer begins with a 1yz of the server's own."""
    size = len(template) if isinstance(template, list) else 1
    lines = whole_lines(x.lines)
    return reply(lines[-size:]) if len(lines) >= size else None


def whole_lines(lines: Sequence[str]) -> list[str]:
    """Reply lines without one that the journal has cut; the last one then ends the reply."""
    if not lines or not _CLIPPED.search(lines[-1]):
        return list(lines)
    kept = [*lines[:-1]] or [_CLIPPED.sub("", lines[-1])]
    return [*kept[:-1], f"{kept[-1][:3]} {kept[-1][4:]}"]


def reply(lines: Sequence[str]) -> str | list[str]:
    texts = [literal(line) for line in lines]
    return texts[0] if len(texts) == 1 else texts


# ---- without the rule ------------------------------------------------------------------------------


def of_exchange(x: Line, protocol: str) -> Table:
    """The fault of an exchange as far as the journal tells it."""
    found = _of_http(x) if protocol == "http" else _of_dialogue(x)
    cut = x.facts.get("cut_by") == "fake"
    if cut or (protocol == "http" and x.facts.get("whole") is False and x.facts.get("sent")):
        found["after_bytes"] = int(x.facts.get("bytes") or x.facts.get("sent") or 0)
    if x.facts.get("data") in ("fin", "reset", "drain"):
        found["data"] = x.facts["data"]
    return found


def _of_dialogue(x: Line) -> Table:
    lines = whole_lines(x.lines)
    while len(lines) > 1 and lines[0].startswith("1"):  # the server's own word before a transfer
        lines = lines[1:]
    found: Table = {"reply": reply(lines)} if lines and not lines[-1].startswith("1") else {}
    codes = x.codes
    says_421 = not CLOSES.isdisjoint(codes)
    found |= _end(x, says_421)
    stored, refuses = x.facts.get("stored"), max(codes, default=0) >= 400
    if stored is True and (refuses or not found.get("reply")):
        found["keep"] = True
    elif stored is False and codes and not refuses and x.moment == "message":
        found["keep"] = False
    return found


def _end(x: Line, says_421: bool) -> Table:
    match x.end:
        case {"type": "close", "how": ("reset" | "abrupt") as how}:
            return {"close": how}
        case {"type": "close"}:
            return {} if says_421 else {"close": True}
        case {"type": "alert", "name": name}:
            return {"alert": name}
    if says_421:
        return {"close": False}
    return {} if x.reply or "stall" not in str(x.fault) else {"stall": True}


def _of_http(x: Line) -> Table:
    known, found = x.facts, _end(x, False)
    if (status := known.get("status")) is not None and known.get("whole") is not False:
        found["status"] = status
    for frame in x.frames:
        match frame:
            case {"type": "GOAWAY", "code": code, "last_stream": last}:
                found["goaway"] = {
                    "code": code,
                    "last": "previous" if last < int(known.get("stream", 0)) else "current",
                }
            case {"type": "RST_STREAM", "code": code}:
                found["reset_stream"] = code
            case {"type": "ALTSVC", "value": value}:
                found["altsvc"] = literal(value)
            case {"type": "ORIGIN", "origins": origins}:
                found["origin"] = list(origins)
    headers = {name: literal(str(known[name])) for name in _HEADERS if known.get(name) is not None}
    if headers and "status" in found:
        found["headers"] = headers
    if "goaway" in found:
        found.pop("close", None)
    if known.get("stored") and (found.get("status", 200) >= 400 or "close" in found):
        found["keep"] = True
    return found
