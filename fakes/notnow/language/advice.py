"""The help in an error: the choices that this protocol and this moment have, and the word that the author probably meant.

Other tools have other names for our keys, moments and values; `SYNONYMS` knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from notnow import protocols
from notnow.errors import Problem, nearest, shown
from notnow.errors import unknown as _unknown
from notnow.language.conditions import PER, SINCE
from notnow.language.faults import FAULT_KEYS, GOES_ON, Fault
from notnow.language.tables import MissingKey, Mistake, RefusedError, Table, UnknownKey
from notnow.language.toml_lines import Path
from notnow.protocols.protocol import Protocol


def _only(keys: Callable[[Protocol], frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """The keys that only some protocols have, each with the names of these protocols."""
    known = frozenset[str]().union(*map(keys, protocols.every()))
    return {key: tuple(one.name for one in protocols.every() if key in keys(one)) for key in sorted(known)}


ONLY: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "server": _only(lambda protocol: protocol.server_keys),
    "expect": _only(lambda protocol: protocol.expect_keys),
}

# Words that other tools use, each with our words for it; an error offers the first that is allowed.
SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "key": {
        "code": ("reply", "status"), "message": ("reply", "body"), "text": ("reply", "body"), "response": ("reply", "status"),
        "answer": ("reply", "status"), "reply": ("reply", "status"), "status": ("status", "reply"), "content": ("body",),
        "header": ("headers",), "timeout": ("after", "lasts"), "silence": ("after",), "wait": ("delay",), "sleep": ("delay",),
        "latency": ("delay",), "slow": ("drip",), "disconnect": ("close",), "hangup": ("close",), "drop": ("close",),
        "abort": ("close",), "hang": ("stall",), "freeze": ("stall",), "rst": ("reset_stream", "close"), "reset": ("reset_stream", "close"),
        "rst_stream": ("reset_stream",), "alt_svc": ("altsvc",), "alt-svc": ("altsvc",), "origins": ("origin",), "cert": ("certificate",),
        "cut_at": ("after_bytes",), "bytes": ("after_bytes",), "offset": ("after_bytes",), "moment": ("on",), "event": ("on",),
        "at": ("on",), "when": ("where", "on"), "verb": ("on",), "command": ("on",), "if": ("where",), "match": ("where",),
        "filter": ("where",), "only": ("where",), "probability": ("chance",), "percent": ("chance",), "rate": ("chance",),
        "count": ("times",), "max": ("over", "times"), "cap": ("over",), "limit": ("over",), "window": ("within",), "period": ("within",),
        "skip": ("after",), "duration": ("lasts",), "length": ("lasts",), "for": ("lasts",), "ends": ("lasts", "until"),
        "description": ("summary",), "doc": ("summary",), "source": ("sources",), "knobs": ("params",), "parameters": ("params",),
        "type": ("protocol",), "loop": ("repeat",), "cycle": ("repeat",), "rules": ("rule", "phase"), "expectations": ("expect",),
        "ssl": ("tls",), "logins": ("users",), "accounts": ("users",), "tree": ("files",), "max_concurrent_streams": ("max_streams",),
        "space": ("quota",), "host": ("names",), "hosts": ("names",), "san": ("names",), "sans": ("names",), "self_signed": ("untrusted",),
        "duplicates": ("no_duplicates",), "gave_up_after": ("gave_up",),
    },
    "tls mode": {
        "explicit": ("starttls", "implicit"), "ftpes": ("starttls",), "auth": ("starttls",), "auth tls": ("starttls",), "stls": ("starttls",),
        "opportunistic": ("starttls",), "ftps": ("implicit",), "smtps": ("implicit",), "https": ("implicit",), "ssl": ("implicit",),
        "tls": ("implicit",), "on": ("implicit",), "true": ("implicit",), "yes": ("implicit",), "off": ("none",), "false": ("none",),
        "no": ("none",), "plain": ("none",), "clear": ("none",), **dict.fromkeys(protocols.NAMES, ("none",)),
    },
    "moment": {
        "helo": ("ehlo",), "login": ("login", "auth"), "from": ("mail",), "mail_from": ("mail",), "sender": ("mail",), "to": ("rcpt",),
        "rcpt_to": ("rcpt",), "recipient": ("rcpt",), "greeting": ("connect",), "banner": ("connect",), "accept": ("connect",),
        "open": ("connect",), "connection": ("connect",), "dot": ("message",), "eom": ("message",), "end_of_data": ("message",),
        "delivered": ("message",), "content": ("body",), "handshake": ("tls",), "hello": ("tls", "ehlo"), "client_hello": ("tls",),
        "timeout": ("idle",), "silence": ("idle",), "close": ("quit",), "bye": ("quit",), "start": ("enter",), "phase": ("enter",),
        "command": ("any",), "all": ("any",), "*": ("any",), "download": ("retr",), "get": ("retr", "request"), "upload": ("stor",),
        "put": ("stor", "request"), "append": ("appe",), "mkdir": ("mkd",), "rmdir": ("rmd",), "delete": ("dele", "request"),
        "ls": ("list",), "dir": ("list",), "passive": ("pasv",), "active": ("port",), "rename": ("rnfr",), "cd": ("cwd",),
        "password": ("pass",), "head": ("request",), "post": ("request",), "headers": ("request",), "stream": ("request",),
        "reply": ("response",), "answer": ("response",), "starttls": ("starttls", "auth"), "xcwd": ("cwd",), "xmkd": ("mkd",),
    },
    "data": {"rst": ("reset",), "close": ("fin",), "abort": ("reset",), "cut": ("fin", "reset"), "true": ("fin",), "half-close": ("drain",),
             "block": ("drop", "reset"), "drop": ("drop", "drain")},
    "close": {"rst": ("reset",), "fin": ("true",), "abort": ("abrupt",), "drop": ("abrupt",), "hard": ("abrupt",)},
    "per": {"ip": ("client",), "address": ("client",), "session": ("connection",), "login": ("user",), "from": ("sender",),
            "to": ("recipient",), "domain": ("host",), "global": ("server",), "all": ("server",)},
    "backoff": {"fixed": ("constant",), "expo": ("exponential",), "doubling": ("exponential",), "arithmetic": ("linear",)},
    "since": {"connection": ("connect",), "start": ("connect",), "last": ("any",)},
    "protocol": {alias: (protocol.name,) for protocol in protocols.every() for alias in protocol.aliases},
}  # fmt: skip


def meant(what: str, word: object, choices: Iterable[str]) -> str | None:
    """The choice that the author probably meant: another tool calls it so, or it is spelled alike."""
    known = list(choices)
    if not isinstance(word, str):
        return None
    by_name = (name for name in SYNONYMS.get(what, {}).get(word.lower(), ()) if name in known)
    return next(by_name, None) or nearest(word, known)


def unknown(what: str, word: str, choices: Iterable[str]) -> Problem:
    """The problem "there is no …", with the choices and the nearest one."""
    known = list(choices)
    problem = _unknown(what, word, known)
    return Problem(problem.found, problem.allowed, nearest=meant(what, word, known))


# ---- the mistakes in tables ----------------------------------------------------------------------


def problem(mistake: Mistake, raw: Mapping[str, Any]) -> tuple[Path, Problem]:
    """A mistake as a path and a `Problem`; `raw` is the document."""
    path = mistake.path
    match mistake.why:
        case UnknownKey(table):
            return path, unknown("key", str(path[-1]), _keys(table, path[:-1], raw))
        case MissingKey(about):
            allowed = ", ".join(protocols.NAMES) if path == ("protocol",) else about
            return path[:-1] or path, Problem(f"the key {path[-1]!r} is missing", allowed=allowed)
        case RefusedError() as why:
            return path, _refused(path, raw, mistake.value, why)


def _refused(path: Path, raw: Mapping[str, Any], value: object, why: RefusedError) -> Problem:
    """A value that was refused. The problem offers only the choices that are allowed at this place."""
    key, choices, allowed = str(path[-1]), list(why.choices), why.allowed
    if allowed == ", ".join(choices):
        choices = [word for word in choices if word in _possible(key, choices, path, raw)]
        allowed = ", ".join(choices)
    words = [word for word in (value if isinstance(value, list) else [value]) if word not in choices]
    near = meant("tls mode" if key == "tls" else key, words[0] if words else None, choices)
    return Problem(f"found {shown(value)}", allowed=allowed, nearest=near or why.nearest)


def _possible(key: str, choices: Iterable[str], path: Path, raw: Mapping[str, Any]) -> Iterable[str]:
    """The choices that this protocol and this moment allow."""
    protocol, on = _protocol(raw), _on(path, raw)
    if protocol is None:
        return choices
    moments = protocols.get(protocol).moments
    if key == "tls":
        return protocols.get(protocol).tls_modes
    if key == "since":
        return [word for word in SINCE if word != "transfer" or word in moments]
    if key == "data" and on:
        announces = any(moments[name].placeholders for name in on)
        lasts = all(moments[name].lasts or moments[name].amid for name in on)
        return [word for word in choices if (word != "drop" or announces) and (word not in GOES_ON or lasts)]
    if key == "per" and on:
        return [word for word in PER if all(is_counted(protocol, name, word) for name in on)]
    return choices


def is_counted(protocol: str, moment: str, per: str) -> bool:
    """True if a rule at this moment can count separately for each of these."""
    return per in ("server", "connection", "host") or per in protocols.get(protocol).facts_at(moment)


def _protocol(raw: Mapping[str, Any]) -> str | None:
    found = raw.get("protocol")
    return found if isinstance(found, str) and found in protocols.NAMES else None


def _on(path: Path, raw: Mapping[str, Any]) -> list[str]:
    """The moments of the rule at a path; [] outside rules, and for a rule with an unknown moment."""
    protocol = _protocol(raw)
    match path:
        case ("phase", int(i), "rule", int(j), *_) if protocol is not None:
            said = raw["phase"][i]["rule"][j].get("on", [])
            on = said if isinstance(said, list) else [said]
            return on if all(isinstance(name, str) and name in protocols.get(protocol).moments for name in on) else []
        case _:
            return []


def _keys(table: type[Table], path: Path, raw: Mapping[str, Any]) -> list[str]:
    """The keys that the table at a path may have in a scenario of this protocol, at the moment of its rule."""
    protocol, on = _protocol(raw), _on(path, raw)
    keys = list(table.KEYS)
    if protocol is None:
        return keys
    only = ONLY.get(str(path[0]) if path else "", {}) if len(path) == 1 else {}
    known = protocols.get(protocol).moments
    moments = [known[name] for name in on] or list(known.values())
    faults = set[str]().union(*(moment.faults for moment in moments))
    return [
        key
        for key in keys
        if protocol in only.get(key, (protocol,))
        and (key in faults or key not in FAULT_KEYS or not issubclass(table, Fault))
        and (key != "since" or not on or "idle" in on)
    ]
