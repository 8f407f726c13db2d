"""`notnow check`: validate scenario files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from notnow.errors import Problem, ScenarioError
from notnow.terminal import safe

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.pass_context
def command(ctx: click.Context, files: Sequence[str]) -> None:
    """Validate scenario files, or all files in a directory.

    Each error is a line on standard error: file and line, key, what was found, what is allowed. The exit code is 2
    after an error, else 0. A rule that is valid but has no effect is a warning, which leaves the exit code at 0.

    \b
    Examples:
      notnow check tests/scenarios/*.toml
      notnow check tests/scenarios
    """
    bad = False
    for file in _expand(files):
        try:
            scenario = _load(file)
            for problem in scenario.warnings:
                click.echo(safe(str(problem)), err=True)
            click.echo(f"{safe(str(file))}: ok ({_size(scenario)})")
        except ScenarioError as error:
            bad = True
            for problem in error.problems:
                click.echo(safe(str(problem)), err=True)
    ctx.exit(2 if bad else 0)


def _expand(files: Sequence[str]) -> Iterator[Path]:
    for file in map(Path, files):
        if file.is_dir():
            yield from sorted(file.rglob("*.toml")) or [file]
        else:
            yield file


def _load(file: Path) -> Scenario:
    from notnow.language.loading import load

    if file.is_dir():
        raise ScenarioError([Problem("no scenario in this directory", allowed="files *.toml", file=str(file))])
    return load(file)


def _size(scenario: Scenario) -> str:
    phases, rules = len(scenario.phases), sum(1 for _ in scenario.rules())
    return f"{scenario.protocol}, {_count(phases, 'phase')}, {_count(rules, 'rule')}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
