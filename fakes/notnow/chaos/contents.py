"""Whether all of an item came through, by what healthy runs of the same client leave at the server.

A client that reads its file or its generator only once has nothing left for its second try. The server takes an empty file,
message or body for a whole one; the client's healthy runs show that it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.run import Run
from notnow.journal import Exchange, Transfer
from notnow.terminal import safe
from notnow.units import plural


class Kept(NamedTuple):
    """Something that the server has kept: its size in bytes, None if the journal does not tell, and a hash of it.

    `replaces`: it takes the place of what the server had under this name.
    """

    size: int | None
    digest: str | None
    replaces: bool = False


class Usual(NamedTuple):
    """What a healthy run leaves: so many, of so many bytes at least. `same`: the content of each run was the same."""

    copies: int
    least: int
    same: bool

    def is_short(self, size: int) -> bool:
        """A missing byte counts, unless a time or a number in the content may explain it."""
        return size * (1 if self.same else 2) < self.least


def usual(runs: Sequence[Run]) -> Mapping[str, Usual]:
    """What healthy runs leave, by who receives it; without what has another size in each run."""
    first, *others = (_kept(run) for run in runs)
    found = {}
    for name, copies in first.items():
        sizes = _sizes(copies)
        if len(sizes) == len(copies) and all(_sizes(one.get(name, ())) == sizes for one in others):
            same = bool(others) and all({*one[name]} == {*copies} for one in others)
            found[name] = Usual(len(sizes), sizes[0], same)
    return found


def shortened(run: Run, healthy: Mapping[str, Usual]) -> str:
    """What came through in part only, in words; empty if nothing did."""
    for name, copies in _kept(run).items():
        if (known := healthy.get(name)) is None:
            continue
        sizes, wanted = (_sizes(copies[-1:]), 1) if copies[-1].replaces else (_sizes(copies), known.copies)
        short = sum(map(known.is_short, sizes))
        if short and len(sizes) - short < wanted:
            return f"only {sizes[0]} of {plural(known.least, 'byte')} came through for {safe(name)}"
    return ""


def _sizes(copies: Sequence[Kept]) -> list[int]:
    return sorted(one.size for one in copies if one.size is not None)


def _kept(run: Run) -> dict[str, list[Kept]]:
    kept = {x.index: x for item in run.ledger.items for one in item.tries if (x := _left_by(one)) is not None}
    found: dict[str, list[Kept]] = {}
    for _, x in sorted(kept.items()):
        for name, copy in _parts(x):
            found.setdefault(name, []).append(copy)
    return found


def _left_by(one: Try) -> Exchange | None:
    """The exchange with which a try left something; an idempotent request that was accepted is one, too."""
    if one.kept is None and one.ending == "accepted" and isinstance(one.by, Exchange) and one.by.http is not None:
        return one.by
    return one.kept


def _parts(x: Exchange) -> list[tuple[str, Kept]]:
    """What an exchange has left, for whom."""
    if x.message is not None:
        return [(to, Kept(x.message.size, x.message.text_sha256)) for to in x.message.recipients]
    if isinstance(x.facts, Transfer) and x.facts.direction == "upload":
        size = None if x.moment == "appe" else x.facts.offset + x.facts.bytes
        return [(x.facts.path, Kept(size, x.facts.sha256, replaces=True))]
    if x.http is not None:
        return [(f"{x.http.method} {x.http.path}", Kept(x.http.body_bytes, x.http.body_sha256, x.http.method == "PUT"))]
    return []
