"""Options that several commands share."""

from __future__ import annotations

import os
import re
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


def complete_name(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of scenarios, for the shell."""
    from notnow.language import catalogue

    search_paths = ctx.params.get("search_paths") or ()
    return [CompletionItem(name) for name in catalogue.names(search_paths=search_paths) if name.startswith(incomplete)]


def duration(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    """The callback of an option that takes a duration such as 30s or 10m, or a plain number of seconds."""
    from notnow.units import DURATION_HELP, seconds

    if text is None:
        return None

    try:
        return seconds(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; allowed: {DURATION_HELP}, or seconds as a number") from None


_LOOKS_LIKE_A_FILE = re.compile(r"(?!.*\.toml$)(?:(?:\.{0,2}|~)/.*|[^=]*\.[A-Za-z][A-Za-z0-9]{0,5})")
_INSTEAD = {
    "--write-baseline": "give the file to --baseline, as in --baseline {value} --write-baseline",
    "--json": "it prints to standard output, as in --json > {value}",
}


class Command(click.Command):
    """A command that takes names of scenarios, and says so where a flag is followed by the name of another file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {name for one in self.params if isinstance(one, click.Option) and one.is_flag for name in one.opts}
        for flag, value in [*pairwise(args), *(arg.split("=", 1) for arg in args if "=" in arg)]:
            if flag in flags and _LOOKS_LIKE_A_FILE.fullmatch(value):
                instead = _INSTEAD.get(flag, "{value} would be the name of a scenario, or a file that ends in .toml")
                raise click.UsageError(f"{flag} takes no value: {instead.format(value=value)}", ctx)
        return super().parse_args(ctx, args)


_CLIENT = "notnow.client"  # the key of the context for the words after `--`


class ClientCommand(Command):
    """A command that leaves the words after `--` to the client."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours, client = args, []
        if "--" in args:
            ours, client = args[: args.index("--")], args[args.index("--") + 1 :]
        ctx.meta[_CLIENT] = client
        return super().parse_args(ctx, ours)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "CMD…"]


def client_words(ctx: click.Context, *, required: bool = True) -> list[str]:
    """The client's command line. Raises click.UsageError without one, where it is `required`."""
    words: list[str] = ctx.meta[_CLIENT]
    if required and not words:
        raise click.UsageError("no client command: put it after --, as in -- python send.py {host} {port}")
    return words


def writable(_ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Check before the client runs that the report can be written."""
    if path is not None:
        directory = Path(path).absolute().parent
        if Path(path).is_dir():
            raise click.BadParameter(f"{path!r} is a directory")
        if not directory.is_dir():
            raise click.BadParameter(f"there is no directory {str(directory)!r}")
        if not os.access(path if Path(path).exists() else directory, os.W_OK):
            raise click.BadParameter(f"{path!r} cannot be written")
    return path


def writable_directory(_ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Make the directory before the client runs, where it does not exist."""
    if path is not None:
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"the directory {path!r} cannot be made: {error.strerror}") from None
    return path


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


_OWN = {
    "files": ("DIR", "Serve a copy of this directory over FTP. It is read once, at the start, and never written to."),
    "app": (
        "MODULE:APP",
        "Let this ASGI application answer the HTTP requests that no rule answers. Imported from the current directory.",
    ),
    "upstream": (
        "URL",
        "Pass on the HTTP requests that no rule answers to this server on this machine, such as http://127.0.0.1:8000.",
    ),
    "forward": (
        "URL",
        "Pass on accepted mail to this server on this machine (Mailpit, say), such as smtp://127.0.0.1:1025.",
    ),
}


def takes_own_servers(function: Any) -> Any:
    """`--files`, `--app`, `--upstream` and `--forward`, as the parameter `own`: what was given for each of them."""

    @wraps(function)
    def command(*given: Any, **named: Any) -> Any:
        return function(*given, own={option: named.pop(option) for option in _OWN}, **named)

    for option, (metavar, told) in reversed(_OWN.items()):
        command = click.option(f"--{option}", multiple=True, metavar=f"[SERVER=]{metavar}", help=told)(command)
    return command
