"""Rules about the partial file that a cut upload leaves."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.ftp import (
    Client,
    client_of,
    cut_by_the_fake,
    named,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural, show_size

_LOOKS = frozenset({"size", "mlst", "mlsd", "list", "nlst", "stat"})  # commands that show the size of a file


@rule(
    "ftp.mend-cut-upload",
    title="The client replaces or completes the partial file of a cut upload, without a gap and without doubled bytes.",
    level="advice",
    source="RFC 959 §4.1.3 (STOR, APPE, REST); RFC 3659 §5; good practice",
    why="Only the server knows how much has arrived. A client that guesses doubles bytes in the file, or leaves some out.",
    proof="APPE to a partial file whose size the client has not asked for since, or REST beyond its end. A partial file that stays proves nothing, since the client's own report is not visible here",
    example="C: STOR a.bin\nS: 426 Transfer aborted; 500 bytes transmitted.\nC: APPE a.bin   (the whole file)",
)
def mends_what_was_cut(run: Run) -> Finding:
    cut: dict[tuple[Client, str], tuple[Exchange, int]] = {}  # the partial files, and their sizes
    looked: dict[Client, int] = {}  # the index of the client's last such command
    mended, by_the_fake = 0, cut_by_the_fake(run)
    for x in run.exchanges:
        client, asked = client_of(x), x.transfer
        if x.moment in _LOOKS and x.code is not None and x.code < 500:
            looked[client] = x.index
        if asked is None or asked.direction != "upload":
            continue
        key = client, asked.path
        appends = x.moment == "appe"
        if not (asked.bytes or asked.whole) and (key not in cut or asked.offset <= cut[key][1]):
            continue  # the transfer did not begin
        before, there = cut.pop(key, (None, 0))
        if before is not None:
            if appends and looked.get(client, 0) < before.index:
                why = f"{show_size(asked.bytes)} were put behind a piece of {key[1]}, and it had not asked how much that is"
                return broken(why, before, x)
            if not appends and asked.offset > there:
                return broken(f"{there} bytes of {key[1]} had come, and it went on at {asked.offset}", before, x)
            mended += asked.whole
        if not asked.whole and id(x) in by_the_fake:
            cut[key] = x, (there if appends else asked.offset) + asked.bytes
    left = f"{plural(len(cut), 'piece')} left; what it has told its user is not seen from here"
    if mended:
        return held(f"{mended} mended" + (f", {left}" if cut else ""))
    return not_exercised(left) if cut else NOT_EXERCISED


@rule(
    "ftp.rename-whole-files",
    title="The client does not rename a partial file to its final name after a cut upload.",
    level="advice",
    source="good practice; RFC 959 §4.2.2 (426: transfer aborted)",
    why="Clients upload under a temporary name so that nobody reads a partial file. Once renamed, it passes for the whole file.",
    proof="RNFR that is accepted for a file of which only a part has arrived",
    example="C: STOR a.bin.part\nS: 426 Transfer aborted; 500 bytes transmitted.\nC: RNFR a.bin.part, RNTO a.bin",
)
def renames_what_is_whole(run: Run) -> Finding:
    cut: dict[tuple[Client, str], Exchange] = {}  # by the last component of the path
    renamed, by_the_fake = 0, cut_by_the_fake(run)
    for x in run.exchanges:
        asked = x.transfer
        if asked is not None and asked.direction == "upload" and (asked.bytes or asked.whole):
            name = client_of(x), asked.path.rpartition("/")[2]
            cut.pop(name, None)
            if not asked.whole and id(x) in by_the_fake:
                cut[name] = x
        elif x.moment in ("rnfr", "dele") and x.code is not None and x.code < 400:
            piece = cut.pop((client_of(x), named(x.request)), None)
            if x.moment == "rnfr" and piece is not None:
                return broken(f"{named(x.request)} got another name, and only a piece of it had come", piece, x)
            renamed += x.moment == "rnfr"
    return held(f"{plural(renamed, 'file')} renamed") if renamed else NOT_EXERCISED
