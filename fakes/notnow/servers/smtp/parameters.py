"""The parameters of MAIL and RCPT (RFC 5321 §4.1.2) without I/O: their names, and their allowed values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Parameters = dict[str, str]  # by their upper-case names; xtext is decoded, and a parameter without a value has ""
Reader = Callable[[str], str]  # returns the decoded value, or raises ValueError


def read(text: str, known: Mapping[str, Reader]) -> tuple[Parameters, str | None]:
    """The parameters behind a path, and the reply that refuses them; None if all are valid.

    Invalid parameters are returned, too, as they came: a rule may accept them.
    """
    if not text:
        return {}, None
    found: Parameters = {}
    refusals: list[str] = []
    for word in text.split():
        name, given, value = word.partition("=")
        name = name.upper()
        refusal = _wrong(name, bool(given), value, known, found)
        if refusal is None:
            try:
                value = known[name](value)
            except ValueError as why:
                refusal = f"501 5.5.4 Error: {name} {why}"
        if refusal is not None:
            refusals.append(refusal)
        found.setdefault(name, value)
    return found, next(iter(refusals), None)


def is_ragged(path: str, address: str, more: str) -> bool:
    """True for what aiosmtpd's parser lets pass: a bracket without the other, words that no bracket holds together, or no space
    between a path and its parameters.
    """
    glued = path.endswith(">") and more != "" and not more[0].isspace()
    brackets = path.strip().startswith("<") + path.strip().endswith(">")
    loose = brackets == 0 and '"' not in path and len(address.split()) > 1
    return glued or brackets == 1 or loose


_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")
_VALUE = re.compile(r"[^\x00-\x20\x7f=]+")  # RFC 5321 §4.1.2, and non-ASCII as RFC 6531 §3.3 has it


def _wrong(name: str, given: bool, value: str, known: Mapping[str, Reader], found: Parameters) -> str | None:
    """The reply that refuses a parameter whatever its value is."""
    if not _KEYWORD.fullmatch(name) or (given and not _VALUE.fullmatch(value)):
        return "501 5.5.4 Error: syntax error in parameters"
    if name not in known:
        return f"555 5.5.4 Error: parameter {name} not recognized or not implemented"  # RFC 5321 §4.1.1.11
    if name in found:  # RFC 3461 §4 forbids it for its parameters; no other parameter makes sense twice
        return f"501 5.5.4 Error: parameter {name} given twice"
    return None


# ---- values --------------------------------------------------------------------------------------


def _nothing(value: str) -> str:
    if value:
        raise ValueError("takes no value")
    return ""


def _one_of(*choices: str) -> Reader:
    def reader(value: str) -> str:
        if value.upper() not in choices:
            raise ValueError(f"can only be {', '.join(choices)}")
        return value.upper()

    return reader


def _size(value: str) -> str:
    """RFC 1870 §3: at most 20 digits."""
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise ValueError("is a number of octets")
    return value


_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")


def xtext(value: str) -> str:
    """The text that xtext stands for (RFC 3461 §4). Raises ValueError."""
    if not _XTEXT.fullmatch(value):
        raise ValueError("is no xtext")
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), value)


def _on_behalf(value: str) -> str:
    """RFC 4954 §5: a server that offers AUTH accepts the parameter, a mailbox or `<>`, and may ignore it."""
    if not value:
        raise ValueError("is a mailbox or <>")
    return xtext(value)


def _envid(value: str) -> str:
    """RFC 3461 §4.4: at most 100 printable characters."""
    if not value or len(value) > 100 or not re.fullmatch(r"[ -~]+", decoded := xtext(value)):
        raise ValueError("is xtext of 1 to 100 printable characters")
    return decoded


_CONDITIONS = ("SUCCESS", "FAILURE", "DELAY")


def _notify(value: str) -> str:
    """RFC 3461 §4.1: NEVER alone, or a list of conditions."""
    wanted = value.upper().split(",")
    if wanted != ["NEVER"] and not all(word in _CONDITIONS for word in wanted):
        raise ValueError(f"is NEVER, or some of {', '.join(_CONDITIONS)}")
    return ",".join(wanted)


def _orcpt(value: str) -> str:
    """RFC 3461 §4.2: a type, a semicolon and an address in xtext; RFC 6533 §3 has another encoding for utf-8."""
    kind, _, address = value.partition(";")
    if len(value) > 500 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", kind) or not address:
        raise ValueError("is a type, a semicolon and an address")
    return f"{kind};{address if kind.lower() == 'utf-8' else xtext(address)}"


MAIL: Mapping[str, Reader] = {
    "SIZE": _size,  # RFC 1870
    "BODY": _one_of("7BIT", "8BITMIME", "BINARYMIME"),  # RFC 6152, RFC 3030 §3
    "SMTPUTF8": _nothing,  # RFC 6531
    "AUTH": _on_behalf,
    "RET": _one_of("FULL", "HDRS"),  # RFC 3461 §4.3
    "ENVID": _envid,
}
RCPT: Mapping[str, Reader] = {"NOTIFY": _notify, "ORCPT": _orcpt}
