"""`notnow show`: one scenario, explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from notnow.cli._options import Command, complete_name, takes_search_paths

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario
    from notnow.page import Page
    from notnow.words import RuleWords


@click.command("show", cls=Command)
@click.argument("name", shell_complete=complete_name)
@click.option("--toml", "as_toml", is_flag=True, help="Print the file of the scenario unchanged.")
@takes_search_paths
def command(name: str, as_toml: bool, search_paths: Sequence[str]) -> None:
    """Explain a scenario and its knobs.

    This shows its phases, rules, knobs, faults and sources, what a good client does under it, and how to run it.

    NAME is a name from the catalogue (see notnow list) or the path of a .toml file.

    \b
    Examples:
      notnow show smtp/greylisting
      notnow show ./my-scenario.toml
      notnow show smtp/overload --toml > mine.toml     to start your own
    """
    from notnow.language import catalogue

    scenario = catalogue.scenario(name, search_paths=search_paths)
    if as_toml:
        click.echo(scenario.text, nl=False)
    else:
        _explain(scenario, search_paths)


def _explain(scenario: Scenario, search_paths: Sequence[str]) -> None:
    from rich.text import Text

    from notnow import words
    from notnow.page import Page

    page = Page()
    page.line(Text(scenario.name, style="bold cyan"))
    page.line(scenario.summary)
    _happens(page, scenario)
    if knobs := words.knobs(scenario):
        _section(page, "Knobs (name, default, type)")
        rows = [(k.name, k.default, k.kind, k.comment) for k in knobs]
        page.columns(rows, ("cyan", "", "dim", ""), indent=2)
    if faults := words.faults(scenario):
        _section(page, "Faults to choose from")
        page.columns(faults, ("cyan", ""), indent=2)
    _section(page, "What a good client does here")
    for expected in words.expectations(scenario) or ["Nothing is asked of it."]:
        page.line(expected, indent=2)
    if scenario.sources:
        _section(page, "Sources")
        for source in scenario.sources:
            page.line(source, indent=2)
    _try_it(page, scenario, search_paths)


def _section(page: Page, title: str) -> None:
    page.line()
    page.heading(title)


def _happens(page: Page, scenario: Scenario) -> None:
    from notnow import words

    _section(page, "What happens")
    for said in words.server(scenario):
        page.line(said, indent=2)
    for name in scenario.certificates:
        page.line(_certificate(name, scenario), indent=2, hang=2)
    for number, phase in enumerate(words.phases(scenario), 1):
        page.line(f"{number}. {phase.name}, {phase.ends}", indent=2)
        for rule in phase.rules:
            _rule(page, rule)
        if not phase.rules:
            page.line("all is well", indent=5, style="green")


def _certificate(name: str, scenario: Scenario) -> str:
    made = scenario.certificates[name]
    wrong = [flaw for flaw in ("expired", "untrusted", "incomplete") if getattr(made, flaw)]
    return f"Certificate {name!r}: for {', '.join(made.names)}" + (f"; {', '.join(wrong)}" if wrong else "")


def _rule(page: Page, rule: RuleWords) -> None:
    import re

    from rich.text import Text

    alone = len(rule.lines) == 1
    what, does = f"“{rule.lines[0]}”" if alone else "the lines below", rule.does
    if rule.lines:
        does = re.sub(r"\b(says|answers|adds)\b", lambda verb: f"{verb[0]} {what}", does, count=1)
        does = does.replace("answers the lines", "answers with the lines")
    page.line(Text.assemble("- ", rule.when, ": ", (does, "yellow")), indent=5, hang=2)
    for line in () if alone else rule.lines:
        page.line(Text(line, style="yellow"), indent=9)


def _try_it(page: Page, scenario: Scenario, search_paths: Sequence[str]) -> None:
    knob = next(iter(scenario.knobs.items()), None)
    options = "".join(f" --scenarios {directory}" for directory in search_paths)
    setting = f" --set {knob[0]}={_argument(knob[1])}" if knob else ""
    keyword = f", {knob[0]}={_literal(knob[1])}" if knob else ""
    name = scenario.name.replace("\\", "/")
    _section(page, "Try it")
    page.line(f"notnow serve {scenario.name}{setting}{options}", indent=2, style="cyan")
    page.line(f'@pytest.mark.notnow("{name}"{keyword})', indent=2, style="cyan")
    _reach_it(page, scenario)


def _reach_it(page: Page, scenario: Scenario) -> None:
    """How a client finds the hosts of the scenario without a change to /etc/hosts."""
    from notnow import protocols
    from notnow.hosts import recipes

    hosts = scenario.hosts if protocols.get(scenario.protocol).has_hosts else ()
    if not hosts:
        return
    _section(page, f"To reach {' and '.join(hosts)} (PORT is what serve says)")
    for client, words in recipes(hosts, "127.0.0.1", "PORT").items():
        page.line(f"{client:<9} {words}", indent=2, hang=10)


def _argument(value: object) -> str:
    from shlex import quote

    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return quote(text.lower() if isinstance(value, bool) else text)


def _literal(value: object) -> str:
    import json

    return repr(value) if isinstance(value, (bool, list)) else json.dumps(value)
