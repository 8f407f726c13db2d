"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem


def complete_name(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of scenarios, for the shell."""
    from notnow.language import catalogue

    search_paths = ctx.params.get("search_paths") or ()
    return [CompletionItem(name) for name in catalogue.names(search_paths=search_paths) if name.startswith(incomplete)]


def duration(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    """The callback of an option that takes a duration such as 30s or 10m, or a plain number of seconds."""
    from notnow.units import DURATION_HELP, seconds

    try:
        return seconds(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; allowed: {DURATION_HELP}, or seconds as a number") from None


def takes_search_paths(function: Any) -> Any:
    """`--scenarios DIR`, as the parameter `search_paths`."""
    return click.option(
        "--scenarios",
        "search_paths",
        multiple=True,
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        help="Also find scenarios in this directory. May be repeated.",
    )(function)
