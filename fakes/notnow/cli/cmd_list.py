"""`notnow list`: list the scenarios."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from notnow.cli import Refused
from notnow.cli._options import Command, takes_search_paths
from notnow.errors import Problem, ScenarioError, nearest

if TYPE_CHECKING:
    from notnow.language.catalogue import Entry
    from notnow.page import Page


PATTERN = 'a glob for names, such as "smtp/*", or a word of names and summaries; `notnow list` prints them all'
_TERMINAL_ANYWAY = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # variables by which rich may take a pipe for a terminal


@click.command("list", cls=Command)
@click.argument("pattern", required=False, metavar="[PATTERN]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list: name, protocol, summary, params.")
@takes_search_paths
def command(pattern: str | None, as_json: bool, search_paths: Sequence[str]) -> None:
    """List the scenarios, one per line.

    PATTERN is a glob for names, or a word to look for in names and summaries. In a pipe, a tab separates name
    and summary.

    \b
    Examples:
      notnow list                        all scenarios
      notnow list overload               scenarios about overload
      notnow list 'smtp/*-certificate'   by glob
      notnow list --json | jq '.[].name'
      notnow list --scenarios tests/scenarios
    """
    found, problems = _load(search_paths)
    chosen = [scenario for scenario in found if pattern is None or _matches(pattern, scenario)]
    if not chosen and not problems:
        raise Refused([_nothing(pattern or "*", [scenario.name for scenario in found])])
    if as_json:
        click.echo(json.dumps([scenario.as_dict() for scenario in chosen], indent=2, ensure_ascii=False))
    else:
        _print(chosen)
    if problems:
        raise Refused(problems)


def _load(search_paths: Sequence[str]) -> tuple[list[Entry], list[Problem]]:
    """Every valid scenario, and the errors of the others: a bad file does not hide the rest."""
    from notnow.language import catalogue

    found: list[Entry] = []
    problems: list[Problem] = []
    for name, file in catalogue.files(search_paths).items():
        try:
            found.append(catalogue.entry(name, file))
        except ScenarioError as error:
            problems += error.problems
    return found, problems


def _matches(pattern: str, scenario: Entry) -> bool:
    from notnow.language.catalogue import is_pattern

    name, word = scenario.name.lower(), pattern.lower()
    if is_pattern(word):
        return fnmatch.fnmatchcase(name, word) or fnmatch.fnmatchcase(name.rpartition("/")[2], word)
    return word in name or word in scenario.summary.lower()


def _nothing(pattern: str, names: Sequence[str]) -> Problem:
    short = {name.rpartition("/")[2]: name for name in names}
    near = nearest(pattern, names) or short.get(nearest(pattern, short) or "")
    return Problem(f"no scenario matches {pattern!r}", allowed=PATTERN, nearest=near)


def _print(scenarios: Sequence[Entry]) -> None:
    page = _page_of_a_terminal()
    if page is None:
        for scenario in scenarios:
            click.echo(f"{scenario.name}\t{scenario.summary}")
        return
    for protocol, same in groupby(scenarios, key=lambda s: s.protocol):
        page.heading(protocol)
        page.columns([(s.name, s.summary) for s in same], ("cyan", ""), indent=2)
    some = "1 scenario" if len(scenarios) == 1 else f"{len(scenarios)} scenarios"
    page.line(f"{some}. One explained: notnow show NAME. One at work: notnow serve NAME", style="dim")


def _page_of_a_terminal() -> Page | None:
    """The page to write on; None in a pipe, for which rich need not be imported."""
    if not sys.stdout.isatty() and not os.environ.keys() & _TERMINAL_ANYWAY:
        return None
    from notnow.page import Page

    page = Page()
    return page if page.is_terminal else None
