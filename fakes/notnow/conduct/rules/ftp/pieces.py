"""Rules about the partial file that a cut upload leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, held, inconclusive, not_exercised
from notnow.conduct.reading.ftp.commands import (
    Client,
    client_of,
    cut_by_the_fake,
)
from notnow.conduct.reading.ftp.versions import TEMPORARY
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural, show_size

_ASIDE = re.compile(r"bad|broken|fail|corrupt|old|bak|backup|trash", re.IGNORECASE)
_LOOKS = frozenset({"size", "mlst", "mlsd", "list", "nlst", "stat"})  # commands that show the size of a file


@rule(
    "ftp.mend-cut-upload",
    title="The client replaces or completes the partial file of a cut upload, without a gap and without doubled bytes.",
    level="advice",
    source="RFC 959 §4.1.3 (STOR, APPE, REST); RFC 3659 §5; good practice",
    why="Only the server knows how much has arrived. A client that guesses doubles bytes in the file, or leaves some out.",
    occasion="an upload is cut, and the client uploads the file again",
    proof="APPE to a partial file whose size the client has not asked for since, or REST beyond its end. A partial file that stays proves nothing, since the client's own report is not visible here",
    innocent="a partial file that the client deleted or renamed; a size that a reply stated; offsets in type A, which count other bytes",
    example="C: STOR a.bin\nS: 426 Transfer aborted.   (500 bytes have arrived)\nC: APPE a.bin   (the whole file)",
)
def mends_what_was_cut(run: Run) -> Finding:
    pieces = _Pieces(run)
    finding = over(pieces.cases(run), lambda n: f"{n} mended")
    left = f"{plural(len(pieces.cut), 'piece')} left; what it has told its user is not seen from here"
    if finding.outcome == "held" and pieces.cut:
        return held(f"{finding.seen}, {left}")
    return not_exercised(left) if finding is NOT_EXERCISED and pieces.cut else finding


class _Pieces:
    """The partial files of cut uploads, as a run goes on."""

    def __init__(self, run: Run) -> None:
        self.cut: dict[tuple[Client, str], tuple[Exchange, int]] = {}  # with their sizes
        self._looked: dict[Client, int] = {}  # the index of the client's last such command
        self._binary: set[Connection] = set()
        self._by_the_fake = cut_by_the_fake(run)

    def cases(self, run: Run) -> Iterator[Finding]:
        for x in run.exchanges if self._by_the_fake else ():
            client, target = client_of(x), x.target
            if x.moment in _LOOKS and x.code is not None and x.code < 500:
                self._looked[client] = x.index
            elif x.moment == "type":
                (self._binary.add if x.request.upper().split()[1:2] == ["I"] else self._binary.discard)(x.connection)
            elif x.moment in ("dele", "rnfr") and target is not None and x.code is not None and x.code < 400:
                self.cut.pop((client, target.path), None)
            if x.transfer is not None and x.transfer.direction == "upload":
                yield from self._upload(client, x)

    def _upload(self, client: Client, x: Exchange) -> Iterator[Finding]:
        asked = x.transfer
        assert asked is not None
        key, appends = (client, asked.path), x.moment == "appe"
        if not (asked.bytes or asked.whole) and (key not in self.cut or asked.offset <= self.cut[key][1]):
            return  # the transfer did not begin
        before, there = self.cut.pop(key, (None, 0))
        if before is not None and (finding := self._mended(client, before, there, x)) is not None:
            yield finding
        if not asked.whole and id(x) in self._by_the_fake:
            self.cut[key] = x, (there if appends else asked.offset) + asked.bytes

    def _mended(self, client: Client, before: Exchange, there: int, x: Exchange) -> Finding | None:
        asked = x.transfer
        assert asked is not None
        if x.moment == "appe" and self._looked.get(client, 0) < before.index and not _tells(before, there):
            why = f"{show_size(asked.bytes)} were appended to a partial {asked.path}, whose size it had not asked for"
            return broken(why, before, x)
        if x.moment != "appe" and asked.offset > there and x.connection in self._binary:
            return broken(f"{there} bytes of {asked.path} had come, and it went on at {asked.offset}", before, x)
        return HELD if asked.whole else None


def _tells(cut: Exchange, size: int) -> bool:
    """True if the reply to a cut upload said how much had come."""
    return re.search(rf"\b{size}\b", cut.reply or "") is not None


@rule(
    "ftp.rename-whole-files",
    title="The client does not rename a partial file to its final name after a cut upload.",
    level="advice",
    source="good practice; RFC 959 §4.2.2 (426: transfer aborted)",
    why="Clients upload under a temporary name so that nobody reads a partial file. Once renamed, it passes for the whole file.",
    occasion="an upload of a client is cut, and it renames a file that it has uploaded",
    proof="a file of which only a part has arrived loses its temporary name (.part, .tmp), or a part of it",
    innocent="a partial file that was mended or deleted before; one that the client sets aside under a name of its own",
    example="C: STOR a.bin.part\nS: 426 Transfer aborted; 500 bytes transmitted.\nC: RNFR a.bin.part, RNTO a.bin",
)
def renames_what_is_whole(run: Run) -> Finding:
    return over(_renames(run), lambda n: f"{plural(n, 'file')} renamed")


def _renames(run: Run) -> Iterator[Finding]:
    cut: dict[tuple[Client, str], Exchange] = {}
    whole: set[tuple[Client, str]] = set()
    shown: set[Client] = set()  # the clients that have had an upload cut
    by_the_fake = cut_by_the_fake(run)
    for x in run.exchanges if by_the_fake else ():
        client, asked, target = client_of(x), x.transfer, x.target
        if asked is not None and asked.direction == "upload" and (asked.bytes or asked.whole):
            key = client, asked.path
            cut.pop(key, None)
            if asked.whole:
                whole.add(key)
            elif id(x) in by_the_fake:
                shown.add(client)
                cut[key] = x
        elif target is not None and x.moment == "dele" and x.code is not None and x.code < 400:
            cut.pop((client, target.path), None)
        elif target is not None and x.moment == "rnto" and target.source is not None and x.code == 250:
            piece = cut.pop((client, target.source), None)
            if piece is not None:
                yield _renamed(piece, target.source, target.path, x)
            elif client in shown and (client, target.source) in whole:
                yield HELD


def _renamed(piece: Exchange, old: str, new: str, x: Exchange) -> Finding:
    why = f"{old} became {new}, and only a piece of it had come"
    temporary, final = old.rpartition("/")[2], new.rpartition("/")[2]
    if final in temporary or (TEMPORARY.search(temporary) and not TEMPORARY.search(final) and not _ASIDE.search(final)):
        return broken(why, piece, x)
    return inconclusive(f"{why}: it may have been set aside", "a name that says whether it is the final one", piece, x)
