"""Soak the fakes in mixed load, and print what clients and servers have counted.

    python -m tests.soak [--minutes N] [--seed N] [--loop asyncio|uvloop]

Run it from the root of the checkout. Each loop gets its half of the time. Stock clients (smtplib, aiosmtplib, ftplib, httpx
over HTTP/2 and HTTP/1.1, and curl where there is one) work while scenarios are swapped, phases go on, the clock is advanced
and clients are kicked. The exit code is 1 if the two sides differ, or anything was left, was swallowed, or grows.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.soak.memory import without_caches_of_threads
from tests.soak.soaking import Soak, soak, the_environment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="how long, in all; more, if it takes more to judge memory"
    )
    parser.add_argument(
        "--seed", type=int, help="repeats what is asked for and what happens; when it happens is the machine's"
    )
    parser.add_argument("--loop", action="append", choices=("asyncio", "uvloop"), help="only on this event loop")
    given = parser.parse_args()
    without_caches_of_threads()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    loops = given.loop or ["asyncio", "uvloop"]
    wrong = False
    for loop in loops:
        with the_environment():
            found = soak(loop, given.minutes * 60 / len(loops), seed)
        print(report(loop, found), flush=True)
        wrong = wrong or bool(problems(found))
    sys.exit(wrong)


def problems(found: Soak) -> list[str]:
    """Everything that is wrong, in words."""
    return [*found.ledger.differences, *found.faults, *found.memory.faults()]


def report(loop: str, found: Soak) -> str:
    """The ledger, what was done, and what is wrong."""
    done = ", ".join(f"{count:,} {what}" for what, count in sorted(found.done.items()))
    wrong = problems(found)
    end = "\n".join(["NOT RIGHT:", *wrong[:40]]) if wrong else "Both sides agree; nothing is left, swallowed, or grows."
    return f"{loop}, seed {found.seed}\n\n{found.ledger.table()}\n\n{done}; {found.lost:,} tries in vain\n{found.memory}\n{end}\n"


if __name__ == "__main__":
    main()
