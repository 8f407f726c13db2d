"""The rule about requests that were refused for good."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, Finding, broken, inconclusive
from notnow.conduct.reading.ftp.commands import Client, answered_at, client_of, crossing, knew
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural, show

AT_ONCE = 1.0  # seconds: a client that asks again later may wait for a file to appear

_ASKS = frozenset({"retr", "stor", "appe", "stou", "rnfr", "dele"})
_CHANGES = frozenset({"stor", "appe", "stou", "rnto", "dele", "mkd", "rmd", "site"})

Asked = tuple[Client, str, str, str]  # the client, its user, the verb, and the path


@rule(
    "ftp.final-is-final",
    title="The client does not repeat a request that was refused with a 5yz.",
    level="should",
    source="RFC 959 §4.2.1 (5yz: the exact request is not to be repeated)",
    why="The answer will be the same, and servers ban clients that keep on asking.",
    occasion="a transfer, DELE or RNFR is refused with a 5yz",
    proof=f"the same command for the same file within {show(AT_ONCE)}, given after the client could have read the refusal",
    innocent="a command in between that may change the answer; another worker at the same time; later on, a client that waits for a file",
    example="C: RETR a.txt\nS: 550 No such file   (0 ms)\nC: RETR a.txt   (2 ms, and six times more)",
)
def final_is_final(run: Run) -> Finding:
    return over(_refused_for_good(run), lambda n: f"{plural(n, 'refusal')} for good, and none asked for again at once")


def _refused_for_good(run: Run) -> Iterator[Finding]:
    users: dict[Connection, str] = {}
    changed: dict[Client, int] = {}  # the index of the client's last command that may change an answer
    refused: dict[Asked, Exchange] = {}
    ever = any(x.moment in _ASKS and _is_final(x) for x in run.once(occasions).kinds)
    for x in run.exchanges if ever else ():
        moment, client = x.moment, client_of(x)
        if moment == "user":
            users[x.connection] = x.request.partition(" ")[2].strip()
        if moment in _ASKS and (path := _path(x)) is not None:
            key = client, users.get(x.connection, ""), moment, path
            before = refused.pop(key, None)
            if before is not None and before.index > changed.get(client, -1):
                yield _again(before, x)
            if _is_final(x):
                refused[key] = x
                yield HELD
        if moment in _CHANGES and x.code is not None and x.code < 400:
            changed[client] = x.index


def _path(x: Exchange) -> str | None:
    if x.transfer is not None:
        return x.request.strip() if x.moment == "stou" else x.transfer.path
    return x.target.path if x.target is not None else None


def _is_final(x: Exchange) -> bool:
    """True for a 5yz about the file: 503 and 530 are about a missing earlier command."""
    code = next((code for code in x.codes if code >= 200), 0)
    return code >= 500 and code not in (503, 530)


def _again(before: Exchange, x: Exchange) -> Finding:
    waited = max(0.0, x.arrived_at - answered_at(before))
    why = f"{x.request.strip()!r} got {before.code}, and came again {show(waited)} later"
    if waited < AT_ONCE:
        return broken(why, before, x) if _knew(x, before) else HELD
    return inconclusive(f"{why}: the answer might have changed", "what changed at the server in between", before, x)


def _knew(x: Exchange, before: Exchange) -> bool:
    """True if it was the same worker, which had read the refusal: on one connection, or on the next one after it."""
    if x.connection is before.connection:
        return knew(x, before)
    left = before.connection.left_index or before.connection.closed_index
    next_one = left is not None and left < x.connection.index
    return next_one or x.arrived_at - answered_at(before) >= crossing(x.connection)
