"""How soon invented scenarios find what is planted in eight clients, and that six careful ones survive 500 of them.

python -m tests.bench.strategies [EXAMPLES [SEEDS]]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent.parent


def main(examples: int = 500, seeds: int = 5) -> None:
    """Print for each planted fault, by seed, after how many scenarios it was found, and the smallest scenario found."""
    sys.path.insert(0, str(TESTS))
    from chaos_clients import CAREFUL, CLIENTS
    from notnow.time_travel.fast_forward import kept_in_place
    from test_strategies import Search

    with kept_in_place():
        for name, client in CLIENTS.items():
            found = [Search(client, 200, number) for number in range(seeds)]
            after = ", ".join(str(one.first or "not found") for one in found)
            rules = max(len(one.smallest.faulty) for one in found if one.smallest is not None)
            print(f"{name}: found after {after}; at most {rules} rules", flush=True)
            if found[0].smallest is not None:
                print(found[0].smallest.text)
        for name, client in CAREFUL.items():
            begun = time.perf_counter()
            one = Search(client, examples, 0)
            took = f"{time.perf_counter() - begun:.1f} s"
            told = f"survived {one.tried} scenarios" if one.smallest is None else f"failed\n{one.smallest.text}"
            print(f"{name}: {told} in {took}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
