"""Count the wrong verdicts of thousands of generated clients: `python -m tests.truth [PROTOCOL] [--clients N] [--seed N]`."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from importlib import import_module

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.truth.properties import PROPERTIES, Judged

SHOWN = 3  # examples of each kind


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("protocols", nargs="*", default=["smtp"], metavar="PROTOCOL")
    parser.add_argument("--clients", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    given_ = parser.parse_args()
    for protocol in given_.protocols:
        report(protocol, given_.clients, given_.seed)


def report(protocol: str, clients: int, number: int) -> None:
    """Play and judge so many clients, and print what was wrong."""
    played = import_module(f"tests.truth.{protocol}")
    wrong: dict[str, list[tuple[str, object, str]]] = {name: [] for name in PROPERTIES}
    words: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=clients,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(played.programs, played.scenarios)
    def judge_one(program: object, scenario: str) -> None:
        judged = Judged(*played.play(program, scenario))
        words[judged.result.word] += 1
        for name, found in PROPERTIES.items():
            for said in found(judged):
                wrong[name].append((said, program, scenario))

    begun = time.perf_counter()
    judge_one()
    took, total = time.perf_counter() - begun, sum(words.values())
    print(f"{protocol}: {total} clients in {took:.1f} s; {', '.join(f'{n} {word}' for word, n in words.most_common())}")
    for name, found in wrong.items():
        runs = len({(str(program), scenario) for _, program, scenario in found})
        print(f"{name}: {runs * 10_000 / total:.0f} per 10,000")
        kinds = Counter(said.partition(":")[0].partition(",")[0] for said, _, _ in found)
        for kind, n in kinds.most_common():
            print(f"    {n} {kind}")
            for said, program, scenario in [one for one in found if one[0].startswith(kind)][:SHOWN]:
                print(f"        {said}\n        {program}\n        " + scenario.replace("\n", "\n        "))


if __name__ == "__main__":
    main()
