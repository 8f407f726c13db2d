"""Count the wrong verdicts on thousands of generated clients: `python -m tests.truth [PROTOCOL…] [--clients N] [--seed N]`.

`--show` prints the smallest client and scenario, with its journal, for each kind of wrong verdict. `--sockets` plays each
client over real sockets as well, and prints where the verdicts differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from tests.truth.properties import KINDS, OPEN, Judged, wrong

PROTOCOLS = ("smtp", "ftp", "http")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL")
    parser.add_argument("--clients", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--sockets", action="store_true")
    asked = parser.parse_args()
    if asked.sockets:
        return int(sum(_differ(one, asked.clients, asked.seed) for one in asked.protocols or PROTOCOLS) > 0)
    tallies = [Tally(protocol, asked.clients, asked.seed) for protocol in asked.protocols or PROTOCOLS]
    for tally in tallies:
        tally.count()
        tally.report()
        if asked.show:
            tally.show()
    return int(any(kind not in OPEN for tally in tallies for kind in tally.runs))


def _differ(protocol: str, clients: int, number: int) -> int:
    """How many generated clients get another verdict over sockets."""
    sys.path.append(str(Path(__file__).parents[1]))  # where the clients of tests are
    over_sockets, played = import_module("tests.truth.over_sockets"), import_module(f"tests.truth.{protocol}")
    different = list[str]()

    @seed(number)
    @settings(_settings(clients), phases=[Phase.generate])
    @given(played.programs, played.scenarios)
    def play_one(program: Any, scenario: str) -> None:
        assume(over_sockets.can_play(program, scenario))
        if found := list(over_sockets.differences(protocol, program, scenario)):
            different.append("\n".join((*found, repr(program), scenario)))

    play_one()
    print(f"{protocol}: {clients} clients over sockets, {len(different)} with another verdict")
    print(*sorted(different, key=len)[:1], sep="\n")
    return len(different)


class Tally:
    """Plays so many generated clients of a protocol, and counts what is wrong with the verdicts on them."""

    def __init__(self, protocol: str, clients: int, number: int) -> None:
        self.protocol, self.clients, self.number = protocol, clients, number
        self.played = import_module(f"tests.truth.{protocol}")
        self.words: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()  # by kind
        self.found: Counter[tuple[str, str]] = Counter()  # by kind, and the rule or word
        self.smallest: dict[tuple[str, str], tuple[Any, str]] = {}
        self.took = self.worked = 0.0

    def count(self) -> None:
        begun, worked = time.perf_counter(), time.process_time()

        @seed(self.number)
        @settings(_settings(self.clients), phases=[Phase.generate])
        @given(self.played.programs, self.played.scenarios)
        def judge_one(program: Any, scenario: str) -> None:
            judged = Judged(self.played, program, scenario)
            self.words[judged.result.word] += 1
            found = set(_kinds(judged, scenario))
            self.found.update(found)
            self.runs.update({kind for kind, _ in found})
            for one in found:
                before = self.smallest.get(one)
                if before is None or _size(program, scenario) < _size(*before):
                    self.smallest[one] = program, scenario

        judge_one()
        self.took, self.worked = time.perf_counter() - begun, time.process_time() - worked

    def report(self) -> None:
        total = sum(self.words.values())
        words = ", ".join(f"{n} {word}" for word, n in self.words.most_common())
        pace = f"{total / self.took * 60:.0f} a minute, {total / self.worked * 60:.0f} a minute of processor time"
        print(f"{self.protocol}: {total} clients in {self.took:.1f} s, {pace}; {words}")
        for kind in KINDS:
            print(f"{self.protocol}: {kind}: {self.runs[kind] * 10_000 / total:.0f} per 10,000")
            found = [(about, n) for (other, about), n in self.found.most_common() if other == kind]
            for about, n in found:
                print(f"    {n} {about}")

    def show(self) -> None:
        """Show the smallest example of each kind, with its journal."""
        for (kind, _), (program, scenario) in self.smallest.items():
            judged = Judged(self.played, program, scenario)
            said = [said for found, said in wrong(judged, scenario) if found == kind]
            print(f"\n--- {kind}: {said}\n{program}\n{scenario}")
            judged.journal.export(sys.stdout)


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False
    )


def _size(program: Any, scenario: str) -> int:
    return len(repr(program)) + len(scenario)


def _kinds(judged: Judged, scenario: str) -> list[tuple[str, str]]:
    return [(kind, _about(said)) for kind, said in wrong(judged, scenario)]


def _about(said: str) -> str:
    """The rule or the result that a sentence is about."""
    return said.partition(":")[0].partition(",")[0]


if __name__ == "__main__":
    sys.exit(main())
