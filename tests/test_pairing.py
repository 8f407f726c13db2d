"""Cases of contract tests are dealt out to the two loops."""

from __future__ import annotations

from itertools import product

import pytest
from pairing import Run, spare

LOOPS = ("asyncio", "uvloop")


def runs(*cases: dict[str, str], loops: tuple[str, ...] = LOOPS) -> list[Run]:
    return [Run(loop, tuple(case.items())) for case in cases for loop in loops]


@pytest.mark.parametrize("rows", range(1, 6))
@pytest.mark.parametrize("clients", range(1, 6))
def test_each_case_runs_and_each_parameter_meets_both_loops(rows, clients):
    grid = [{"row": f"r{row}", "client": f"c{client}"} for row, client in product(range(rows), range(clients))]
    all_runs = runs(*grid)
    kept = set(all_runs) - spare(all_runs)
    assert {run.case for run in kept} == {run.case for run in all_runs}
    assert {pair for run in kept for pair in run.pairs()} == {pair for run in all_runs for pair in run.pairs()}
    assert len(kept) <= max(len(grid) + 2, 2 * max(rows, clients))


def test_a_scenario_that_one_client_knows_meets_both_loops():
    rare = {"row": "rare", "client": "curl"}
    usual = [{"row": f"r{n}", "client": client} for n in range(4) for client in ("curl", "lftp")]
    left_out = spare(runs(rare, *usual))
    assert len(left_out) == len(usual)
    assert not left_out & set(runs(rare))


def test_cases_without_other_parameters_or_another_loop_stay():
    assert spare(runs({})) == set()
    assert spare(runs({"client": "curl"}, {"client": "lftp"})) == set()
    assert spare(runs({"client": "curl"}, {"client": "lftp"}, loops=("uvloop",))) == set()
