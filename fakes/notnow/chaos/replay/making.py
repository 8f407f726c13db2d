"""From a file to a scenario: which kind of recording it is, and the reader for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import msgspec
from msgspec import Struct

from notnow.chaos.replay import deliveries, entries, journal, maillog, writing
from notnow.chaos.replay.lines import Lines
from notnow.chaos.replay.recording import ReplayError
from notnow.units import plural

LARGEST_REPORT = 256_000_000  # bytes of a report, which is read as one
ALLOWED = (
    "allowed: a journal (JSON Lines, or a report of `notnow try --json`), a mail.log of Postfix, a scenario (.toml)"
)
_FOUND = re.compile(r"^# found(?: by [^:\n]+)?: *(.+)$", re.MULTILINE)  # the comment of a scenario that was saved


class Made(Struct, frozen=True):
    """The scenario that a recording became, and what was read for it, in a sentence."""

    toml: str
    tally: str


def made(file: BinaryIO, name: str, *, server: str = "", relay: str = "", in_order: bool = False) -> Made:
    """The scenario of a recording. Raises ReplayError.

    `server` names one of several in a journal. `relay` is a glob of the servers in a mail.log; `in_order`: its commands are
    counted whoever they name.
    """
    lines = Lines(file, name)
    rest = iter(lines)
    first = next((line for line in rest if line.strip()), "")
    if not first:
        raise ReplayError(f"{name} is empty; {ALLOWED}")
    whole = chain([first], rest)
    if first == "{":
        found = _reported(whole, name)
        return _of_journal(found, name, server, Lines(file, name))
    if first.lstrip("\ufeff").startswith("{"):
        return _of_journal(whole, name, server, lines)
    log = maillog.read(whole, name, relay or "*")
    recording = deliveries.recording(log, name, lines.read, in_order=in_order)
    return Made(writing.document(recording, name), recording.tally + _long(lines))


def _of_journal(lines: Iterable[str], name: str, server: str, counter: Lines) -> Made:
    counted = _Counted(lines)
    found = entries.read(counted, name, server)
    recording = journal.recording(found, name, max(counter.read, counted.n))
    return Made(writing.document(recording, name), recording.tally + _long(counter))


class _Counted:
    """Lines that are counted as they are read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.n = lines, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.n += 1
            yield line


def _long(lines: Lines) -> str:
    return f"; left out {plural(lines.long, 'line')} of more than a million bytes" if lines.long else ""


def _reported(lines: Iterable[str], name: str) -> Iterator[str]:
    """The entries of the journals in a report of `notnow try --json`."""
    text: list[str] = []
    size = 0
    for line in lines:
        text.append(line)
        size += len(line)
        if size > LARGEST_REPORT:
            raise ReplayError(f"{name} is too large for a report; allowed: {LARGEST_REPORT} bytes, or JSON Lines")
    try:
        journals = msgspec.json.decode("\n".join(text))["journals"]
        told = [entry for one in journals.values() for entry in one]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise ReplayError(
            f"{name} is JSON, and no report of `notnow try --json` with its journals; {ALLOWED}"
        ) from None
    return map(json.dumps, told)


def found_in(toml: str) -> str:
    """What a saved scenario did to a client, as its comment `# found by notnow sweep: lost` says; empty if it says nothing."""
    match = _FOUND.search(toml)
    return match[1].strip() if match else ""
