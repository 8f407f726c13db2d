"""The rule about resuming a transfer that was cut."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, Finding, broken
from notnow.conduct.reading.ftp.commands import (
    Client,
    answered_at,
    client_of,
    cut_by_the_fake,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange, Transfer
from notnow.units import show_size, times

WORTH = 65_536  # bytes: it takes less time to send a smaller piece again than to ask for its size

Key = tuple[Client, str, str]  # the client, the direction, and the path


@rule(
    "ftp.resume",
    title="The client resumes a big transfer at the point where it was cut.",
    level="advice",
    source="RFC 3659 §5 (REST); good practice",
    why="Against a server that cuts after so many bytes, a client that starts at 0 each time never finishes.",
    occasion=f"a transfer is cut of which {show_size(WORTH)} or more had passed, and the client asks for the file again",
    proof="the next transfer of that file begins at 0",
    innocent="another segment of it, on a connection that was open already; a file that SIZE has called empty or gone, or that the client deleted or renamed; a refused REST; type A, whose offsets are undefined",
    example="C: RETR big.bin\nS: 426 Connection closed   (1 MB has passed)\nC: RETR big.bin, without REST",
)
def resumes(run: Run) -> Finding:
    return over(_again(run), lambda n: f"it went on {times(n)} from where it was cut")


def _again(run: Run) -> Iterator[Finding]:
    cut: dict[Key, tuple[Exchange, int]] = {}  # what was cut, and how much of it has passed
    ascii_typed: set[Connection] = set()
    no_rest: set[Client] = set()  # clients whose last REST was refused
    by_the_fake = cut_by_the_fake(run)
    for x in run.exchanges if by_the_fake else ():
        client, asked = client_of(x), x.transfer
        if x.moment == "type":
            (ascii_typed.add if x.request.upper().split()[1:2] == ["A"] else ascii_typed.discard)(x.connection)
        elif x.moment == "rest":
            (no_rest.discard if x.code == 350 else no_rest.add)(client)
        elif (gone := _begins_anew(x)) is not None:
            cut.pop((client, "upload", gone), None)
            cut.pop((client, "download", gone), None)
        if asked is None or asked.direction == "listing" or x.moment == "stou":
            continue
        key = client, asked.direction, asked.path
        if key in cut and not _knew(x, cut[key][0]):
            continue  # another segment of it, side by side
        before, there = cut.pop(key, (None, 0))
        if before is not None and client not in no_rest and x.connection not in ascii_typed:
            yield _went_on(before, there, x, asked)
        there = (there if x.moment == "appe" else asked.offset) + asked.bytes
        if not asked.whole and id(x) in by_the_fake and there >= WORTH:
            cut[key] = x, there


def _knew(x: Exchange, cut: Exchange) -> bool:
    """True if it came on the connection of the transfer that was cut, or on one that was opened after the cut."""
    return x.connection is cut.connection or x.connection.opened_at >= answered_at(cut)


def _begins_anew(x: Exchange) -> str | None:
    """The file that begins anew after a command: it is gone, empty, or has another name now."""
    if x.target is None:
        return None
    gone = x.moment in ("size", "mlst") and (x.code == 550 or (x.reply or "").startswith("213 0"))
    taken_away = x.moment in ("dele", "rnfr") and x.code is not None and x.code < 400
    return x.target.path if gone or taken_away else None


def _went_on(before: Exchange, there: int, x: Exchange, asked: Transfer) -> Finding:
    if asked.offset or x.moment == "appe":
        return HELD
    return broken(f"{show_size(there)} of {asked.path} had come through, and it began again from 0", before, x)
