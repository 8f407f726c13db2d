"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem


def complete_name(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of scenarios, for the shell."""
    from notnow import catalogue

    own = ctx.params.get("own") or ()
    return [CompletionItem(name) for name in catalogue.names(own=own) if name.startswith(incomplete)]


def own_scenarios(function: Any) -> Any:
    """`--scenarios DIR`, as the parameter `own`."""
    return click.option(
        "--scenarios",
        "own",
        multiple=True,
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        help="Also find scenarios in this directory. May be repeated.",
    )(function)
