"""The rule about resuming a transfer that was cut."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp import (
    Client,
    client_of,
    cut_by_the_fake,
    named,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import show_size

WORTH = 65_536  # bytes: it takes less time to send a smaller piece again than to ask for its size


@rule(
    "ftp.resume",
    title="The client resumes a big transfer at the point where it was cut.",
    level="advice",
    source="RFC 3659 §5 (REST); good practice",
    why="Against a server that cuts after so many bytes, a client that starts at 0 each time never finishes.",
    proof=f"the offset of the next transfer of a file of which {show_size(WORTH)} or more had passed; 0 is right if SIZE has said that the file is empty or gone",
    example="C: RETR big.bin\nS: 426 Connection closed   (1 MB has passed)\nC: RETR big.bin, without REST",
)
def resumes(run: Run) -> Finding:
    cut: dict[tuple[Client, str, str], tuple[Exchange, int]] = {}
    gone: set[tuple[Client, str]] = set()  # files that the server has since called missing or empty
    resumed, by_the_fake = 0, cut_by_the_fake(run)
    for x in run.exchanges:
        client, asked = client_of(x), x.transfer
        if x.moment in ("size", "mlst") and (x.code == 550 or (x.reply or "").startswith("213 0")):
            gone.add((client, named(x.request)))
        if asked is None or asked.direction == "listing" or x.moment == "stou":
            continue
        key = client, asked.direction, asked.path
        before, there = cut.pop(key, (None, 0))
        appends = x.moment == "appe"
        name = client, key[2].rpartition("/")[2]
        if before is not None and name not in gone:
            if not asked.offset and not appends:
                why = f"{show_size(there)} of {key[2]} had come through, and it began again from 0"
                return broken(why, before, x)
            resumed += 1
        gone.discard(name)
        there = (there if appends else asked.offset) + asked.bytes
        if not asked.whole and id(x) in by_the_fake and there >= WORTH:
            cut[key] = x, there
    return held(f"it went on {resumed} times from where it was cut") if resumed else NOT_EXERCISED
