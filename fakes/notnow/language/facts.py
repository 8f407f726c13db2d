"""The facts of each protocol with their types: the values that `where` may ask for.

This table is the only place that names the types. The loader refuses a value that a fact can never have, `matching`
compares what `read` gives, and the reference in the docs is printed from it. To add a fact, add a row to `FACTS`, name
it in the moments that know it (`notnow.language.moments`), and have the adapter of that protocol say it.
"""

from __future__ import annotations

import ipaddress
import operator
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from typing import Any

from notnow import errors
from notnow.errors import Problem, nearest
from notnow.language.moments import MOMENTS
from notnow.units import parse_size, show_size

ABSENT, PRESENT = "none", "*"
_WILD = re.compile(r"\[[^\]]+\]|[*?]")  # what a glob may have besides literal text
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_COMPARED = re.compile(r"([<>]=?|!?=)?\s*(\S+)")
_VERB = re.compile(r"[!-~]+")


class ValueNeverHeldError(ValueError):
    """The fact never has this value. `nearest` is the value that was probably meant."""

    def __init__(self, allowed: str, near: str | None = None) -> None:
        super().__init__(allowed)
        self.nearest = near


@dataclass(frozen=True, slots=True)
class Comparison:
    """A number that is compared: `>=10MB`."""

    sign: str
    number: int

    def holds(self, found: object) -> bool:
        """True if a number compares so; an absent one never does."""
        return isinstance(found, int) and _SIGNS[self.sign](found, self.number)

    def __str__(self) -> str:
        sign = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "=": "exactly", "!=": "other than"}
        return f"{sign[self.sign]} {show_size(self.number)}"


@dataclass(frozen=True, slots=True)
class Glob:
    """A text that is matched by a glob, whatever the case. `fault` says why a glob can match no value of the fact;
    `doubt` says why it probably does not do what was meant.
    """

    allowed: str = "a text or a glob"
    fault: Callable[[str], ValueNeverHeldError | None] = lambda _: None
    doubt: Callable[[str], str | None] = lambda _: None

    def read(self, wanted: object) -> object:
        if not isinstance(wanted, str):
            raise ValueNeverHeldError(self.allowed)
        if found := self.fault(wanted):
            raise found
        return wanted


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, which a glob may match as well, or true and false."""

    values: tuple[str | bool, ...]
    allowed: str = ""

    def __post_init__(self) -> None:
        said = self.allowed or ", ".join(str(v).lower() if isinstance(v, bool) else repr(v) for v in self.values)
        object.__setattr__(self, "allowed", said.replace("'", '"'))

    def read(self, wanted: object) -> object:
        words = [v for v in self.values if isinstance(v, str)]
        if isinstance(wanted, bool) and wanted in [v for v in self.values if isinstance(v, bool)]:
            return wanted
        if isinstance(wanted, str) and words and any(map(glob(wanted), words)):
            return wanted
        raise ValueNeverHeldError(self.allowed, nearest(wanted, words) if isinstance(wanted, str) else None)


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, which is compared."""

    allowed: str = 'a number of bytes (5), a size ("10MB"), or either compared: ">=10MB", "<10", "!=0"'

    def read(self, wanted: object) -> object:
        if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 0:
            return wanted
        match = _COMPARED.fullmatch(wanted) if isinstance(wanted, str) else None
        number = None if match is None else int(match[2]) if _is_number(match[2]) else parse_size(match[2])
        if match is None or number is None or (match[1] == "<" and not number):
            raise ValueNeverHeldError(self.allowed)
        return Comparison(match[1], number) if match[1] else number


Kind = Glob | Choice | Size


@dataclass(frozen=True, slots=True)
class Fact:
    """What an adapter tells the engine of an event.

    `always`: no event at a moment that knows the fact lacks it, so that "none" never holds.
    """

    doc: str
    kind: Kind = field(default_factory=Glob)
    always: bool = False

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed}, or a list of these" + ("" if self.always else '; "none" where it is absent')


def glob(wanted: str) -> Callable[[str], object]:
    """A test whether a glob matches a text, whatever the case, as `notnow.engine.matching` has it."""
    return re.compile(translate(wanted), re.IGNORECASE).match


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _literal(wanted: str) -> str:
    """A glob without its wildcards."""
    return _WILD.sub("", wanted)


def _head(wanted: str) -> str:
    """What a glob begins with, up to its first wildcard."""
    return _WILD.split(wanted, maxsplit=1)[0]


# ---- what each kind of text can be ---------------------------------------------------------------


def _address(wanted: str) -> ValueNeverHeldError | None:
    """The peer's address as the socket has it: 127.0.0.1, ::1."""
    allowed = 'an IP address such as "127.0.0.1", or a glob of one ("10.*")'
    if _WILD.search(wanted):
        return None if re.fullmatch(r"[0-9a-f.:]*(%.*)?", _literal(wanted), re.I) else ValueNeverHeldError(allowed)
    try:
        right = str(ipaddress.ip_address(wanted))
    except ValueError:
        near = {"localhost": "127.0.0.1"}.get(wanted.lower())
        return ValueNeverHeldError(f"{allowed}; a client is known by its address alone", near)
    return None if right == wanted.lower() else ValueNeverHeldError(allowed, right)


def _host(wanted: str) -> ValueNeverHeldError | None:
    """A host as the adapter has it: in lower case, without port, brackets and final dot; hosts are ASCII on the wire."""
    allowed = 'a host without its port, such as "a.test", or a glob of one'
    bare = re.sub(r"^[a-z]+://|/.*$", "", wanted.lower())
    bare = re.sub(r"^\[([0-9a-f:.]*:[0-9a-f:.]*)\]", r"\1", bare)
    if not re.search(r":.*:", bare):
        bare = bare.partition(":")[0]
    bare = bare if bare == "." else bare.rstrip(".")
    if bare != wanted.lower():
        return ValueNeverHeldError(allowed, bare or None)
    if not wanted.isascii() or re.search(r"[\s@]", _literal(wanted)):
        return ValueNeverHeldError(f"{allowed}, in ASCII (an IDN as its A-label, xn--…)")
    return None


def _sni_doubt(wanted: str) -> str | None:
    try:
        ipaddress.ip_address(wanted)
    except ValueError:
        return None
    return 'clients send no address as SNI (RFC 6066 §3): where = { sni = "none" }'


def _file(wanted: str) -> ValueNeverHeldError | None:
    """A path of an FTP server: absolute, and normalized as the server has it."""
    allowed = 'an absolute path such as "/in/a.csv", or a glob of one ("/in/*.csv")'
    head = _head(wanted)
    if (head and not head.startswith("/")) or not wanted:
        return ValueNeverHeldError(allowed, "/" + wanted.removeprefix("./") if wanted else "/")
    if (wanted.endswith("/") and wanted != "/") or re.search(r"//|/\.\.?(/|$)", wanted):
        normal = posixpath.normpath("/" + wanted.lstrip("/")) if head else None
        return ValueNeverHeldError(f"{allowed}; it has no '//', '.' or '..' in it, and no '/' at its end", normal)
    return None


def _target(wanted: str) -> ValueNeverHeldError | None:
    """The path of a request target (RFC 9112 §3.2); that of a CONNECT is empty."""
    allowed = 'a path such as "/api/users", or a glob of one ("/api/*"); host and query are facts of their own'
    head, name = _head(wanted), re.match(r"https?://[^/]*(/.*)?$", wanted)
    if name:
        return ValueNeverHeldError(allowed, name[1] or "/")
    if "#" in wanted:
        return ValueNeverHeldError(f"{allowed}; no client sends what comes after '#'", wanted.partition("#")[0] or None)
    if head and not head.startswith("/"):
        return ValueNeverHeldError(allowed, "/" + wanted)
    return None


def _target_doubt(wanted: str) -> str | None:
    if "?" in _literal_with_question(wanted):
        path, _, query = wanted.partition("?")
        return (
            f"'?' stands for any one character here, and the path is told without its query; "
            f'for the query: where = {{ path = "{path}", query = "{query or "*"}" }}'
        )
    if not wanted.isascii() or " " in wanted:
        return "clients send spaces and letters beyond ASCII percent-encoded (%20), and the path is told as it was sent"
    return None


def _literal_with_question(wanted: str) -> str:
    """A glob without its classes: `[?]` means the character itself."""
    return re.sub(r"\[[^\]]+\]", "", wanted)


def _query_doubt(wanted: str) -> str | None:
    if wanted.startswith("?"):
        return f"the query is told without the '?' before it, and '?' stands for any one character: {wanted[1:]!r}"
    return None


def _mailbox(wanted: str) -> ValueNeverHeldError | None:
    """An address as the envelope has it, without the brackets of MAIL FROM:<…>."""
    if wanted.startswith("<") or wanted.endswith(">"):
        return ValueNeverHeldError(
            'an address without < and >, or a glob of one ("*@example.net"); "" is the null sender', wanted.strip("<>")
        )
    return None


def _mailbox_doubt(wanted: str) -> str | None:
    if wanted and not _WILD.search(wanted) and "@" not in wanted and wanted.lower() != "postmaster":
        return f'an address has an \'@\': "*@{wanted}" is everybody at this host, "{wanted}@*" this name at any'
    return None


def _token(wanted: str) -> ValueNeverHeldError | None:
    if _VERB.fullmatch(wanted):
        return None
    return ValueNeverHeldError("a verb such as NOOP, without arguments, or a glob of one", wanted.split(" ")[0] or None)


# ---- the table -----------------------------------------------------------------------------------

_CONNECTION = {
    "client": Fact(
        "The client's address.", Glob('an IP address ("127.0.0.1") or a glob of one ("10.*")', _address), always=True
    ),
    "tls": Fact("Whether the connection speaks TLS.", Choice((True, False)), always=True),
    "sni": Fact(
        "The server name of the ClientHello (RFC 6066 §3).",
        Glob('a host ("a.test") or a glob of one', _host, _sni_doubt),
    ),
    "user": Fact("Who is logged in; at FTP's USER and PASS, the name that was given.", Glob("a name or a glob")),
}
_SIZE = Size()
_ADDRESS = Glob('an address ("ann@a.test") or a glob of one ("*@a.test")', _mailbox, _mailbox_doubt)
_COMMAND = Glob("a verb (NOOP) or a glob of one", _token)

FACTS: dict[str, dict[str, Fact]] = {
    "smtp": {
        **_CONNECTION,
        "command": Fact("The verb of the command.", _COMMAND),
        "sender": Fact('The address of MAIL FROM; `""` is the null sender.', _ADDRESS),
        "recipient": Fact("The addresses of RCPT TO; one that matches is enough.", _ADDRESS),
        "size": Fact("What SIZE= announces (RFC 1870); at `message`, the size of the message.", _SIZE),
        "header": Fact("A header field of the message: `header.subject`."),
    },
    "ftp": {
        **_CONNECTION,
        "command": Fact("The verb of the command; at `enter` and `idle`, that of the transfer in progress.", _COMMAND),
        "path": Fact("The file or directory, absolute.", Glob('a path ("/in/a.csv") or a glob of one ("/in/*")', _file)),
        "mode": Fact("How the data connection is made.", Choice(("active", "passive"))),
        "resumed": Fact(
            "Whether the TLS of the data connection takes up a session of the control connection (RFC 8446 §2.2). A rule "
            "that asks for it is decided at `data`.",
            Choice((True, False)),
        ),
    },
    "http": {
        **_CONNECTION,
        "command": Fact("The method.", _COMMAND),
        "method": Fact("The method.", _COMMAND),
        "authority": Fact(
            "The host of `:authority` or Host, without its port.",
            Glob('a host without its port ("a.test") or a glob of one', _host),
        ),
        "path": Fact(
            "The path of the request target, without its query.",
            Glob('a path ("/api/users") or a glob of one ("/api/*")', _target, _target_doubt),
        ),
        "query": Fact(
            "What follows the `?` of the request target.",
            Glob('a query without its "?" ("page=2") or a glob of one ("*page=*")', doubt=_query_doubt),
        ),
        "header": Fact("A header field of the request: `header.accept`."),
        "size": Fact("What Content-Length says.", _SIZE),
        "misdirected": Fact(
            "Why the request is on the wrong connection (RFC 9110 §7.4).",
            Choice(("sni", "certificate", True), '"sni", "certificate", true (either, or no SNI)'),
        ),
    },
}  # fmt: skip


def kind_at(protocol: str, name: str, moment: str) -> Fact:
    """A fact as it is at one moment: at most moments only certain verbs come."""
    fact, at = FACTS[protocol][name], MOMENTS[protocol][moment]
    return replace(fact, kind=Choice(at.verbs), always=not at.unasked) if name == "command" and at.verbs else fact


def read(protocol: str, name: str, moments: Iterable[str], wanted: Any) -> object:
    """What `notnow.engine.matching` compares a fact with: a size as its bytes, `">=10MB"` as a `Comparison`.

    Raises ValueNeverHeldError for a value that the fact has at none of these moments.
    """
    never = []
    for fact in (kind_at(protocol, name, moment) for moment in moments):
        if wanted == PRESENT or (wanted == ABSENT and not fact.always):
            return wanted
        try:
            return fact.kind.read(wanted)
        except ValueNeverHeldError as error:
            never.append(ValueNeverHeldError(_allowed(error, fact, wanted), error.nearest))
    raise never[0]


def _allowed(error: ValueNeverHeldError, fact: Fact, wanted: Any) -> str:
    if wanted == ABSENT:
        return f"{fact.allowed}; it is never absent here"
    return str(error) if str(error) != fact.kind.allowed else fact.allowed


def read_where(protocol: str, moments: Iterable[str], where: Mapping[str, Any]) -> dict[str, Any]:
    """A `where` that was checked, as `notnow.engine.matching` takes it."""
    moments = tuple(moments)

    def values(name: str, wanted: Any) -> Any:
        if name == "header" and isinstance(wanted, Mapping):
            return wanted
        many = isinstance(wanted, list)
        found = [read(protocol, name, moments, item) for item in (wanted if many else [wanted])]
        return found if many else found[0]

    return {name: values(name, wanted) for name, wanted in where.items()}


def doubt(protocol: str, name: str, wanted: Any) -> str | None:
    """Why a value that a fact can have probably does not do what was meant."""
    kind = FACTS[protocol][name].kind
    return kind.doubt(wanted) if isinstance(kind, Glob) and isinstance(wanted, str) else None


def unknown(protocol: str, name: str) -> Problem:
    """There is no such fact; the names that other tools have for ours are known."""
    problem = errors.unknown("fact", name, sorted(FACTS[protocol]))
    meant = _SYNONYMS.get(name.lower())
    return replace(problem, nearest=meant) if meant in FACTS[protocol] else problem


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a `where`: the facts of all protocols, each with the types that it can have."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for table in FACTS.values():
        for name, fact in table.items():
            kinds.setdefault(name, []).extend(item for item in _schemas(fact.kind) if item not in kinds.get(name, ()))
    properties = {name: _one_or_more(items) for name, items in kinds.items()}
    properties["header"] = {"type": "object", "minProperties": 1, "additionalProperties": properties["header"]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _one_or_more(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"anyOf": [*items, {"type": "array", "items": {"anyOf": items}, "minItems": 1}]}


def _schemas(kind: Kind) -> list[dict[str, Any]]:
    if isinstance(kind, Size):
        pattern = r"^(none|\*|([<>]=?|!?=)?\s*[0-9][0-9.]*(B|KB|MB|GB)?)$"
        return [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]
    if isinstance(kind, Choice) and any(isinstance(value, bool) for value in kind.values):
        words = [value for value in kind.values if isinstance(value, str)]
        bools = {"enum": [value for value in kind.values if isinstance(value, bool)]}
        return [bools, {"type": "string"}] if words else [bools, {"enum": [PRESENT]}]
    return [{"type": "string"}]


_SYNONYMS = {
    "host": "authority", "hostname": "authority", "domain": "authority", "url": "path", "uri": "path",
    "target": "path", "params": "query", "querystring": "query", "search": "query", "verb": "command",
    "from": "sender", "mail_from": "sender", "to": "recipient", "rcpt": "recipient", "rcpt_to": "recipient",
    "ip": "client", "address": "client", "peer": "client", "remote": "client", "server_name": "sni",
    "login": "user", "username": "user", "length": "size", "bytes": "size", "content_length": "size",
    "headers": "header", "subject": "header", "ssl": "tls", "secure": "tls", "file": "path", "filename": "path",
    "name": "path", "directory": "path", "passive": "mode", "active": "mode",
}  # fmt: skip

__all__ = [
    "ABSENT", "FACTS", "PRESENT", "Comparison", "Fact", "ValueNeverHeldError", "doubt", "kind_at", "read",
    "read_where", "unknown",
]  # fmt: skip
