"""The command line, `notnow COMMAND`.

Each command is the function `command` of its module, `notnow.cli.cmd_NAME` (`cmd_`, because a module called `list`
would hide the built-in, and `try` is a keyword). A module is imported when its command is looked up, and it imports
heavy modules (the language, rich, the fakes) only when the command runs, so that `--help` is quick. To add a command, add
its module, and its name to `COMMANDS`.

Exit codes: 0 success, 1 our own code failed (or the user aborted), 2 an invalid argument, scenario or knob; then
nothing was started. `try` documents more of its own.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import IO, Any

import click

from notnow._version import __version__
from notnow.cli import _pid1
from notnow.errors import FakeError, ScenarioError, ScenarioWarning, StartError, unknown
from notnow.terminal import safe_lines

COMMANDS = ("demo", "list", "show", "serve", "try", "replay", "sweep", "storm", "report", "conduct", "check", "schema")


class Refused(click.ClickException):
    """The arguments are invalid: a line for each reason, and exit code 2."""

    exit_code = 2

    def __init__(self, reasons: Iterable[object]) -> None:
        self.reasons = tuple(map(str, reasons))
        super().__init__("\n".join(self.reasons))

    def show(self, file: IO[Any] | None = None) -> None:
        for reason in self.reasons:
            click.echo(f"Error: {safe_lines(reason)}", file=file, err=file is None)


class Commands(click.Group):
    """The commands, each loaded on demand. Errors of notnow become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"notnow.cli.cmd_{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(str(unknown("command", args[0], COMMANDS)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.with_resource(_warnings_in_words())
        try:
            return super().invoke(ctx)
        except ScenarioError as error:
            raise Refused(error.problems) from None
        except StartError as error:
            raise Refused([error.strerror or error]) from None
        except FakeError as error:
            raise click.ClickException(safe_lines(str(error))) from error


@contextlib.contextmanager
def _warnings_in_words() -> Iterator[None]:
    """Print the warnings about a scenario on standard error, as `notnow check` does."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
        if issubclass(category, ScenarioWarning):
            click.echo(safe_lines(f"{filename}:{lineno}: warning: {message}"), err=True)
        else:
            before(message, category, filename, lineno, *more)

    with warnings.catch_warnings():
        before = warnings.showwarning
        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("default", ScenarioWarning)
        yield


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="For help and examples of a command: notnow COMMAND --help",
)
@click.version_option(__version__, prog_name="notnow", message="%(prog)s %(version)s")
def group() -> None:
    """Fake SMTP, FTP and HTTP servers that say "not now" (421, and its neighbours) on cue.

    Point a client at one, and see whether the client tries again, how long it waits, and whether it loses anything
    or sends it twice.

    \b
    Examples:
      notnow demo                       watch a careless and a careful sender in the same outage
      notnow list                       list the scenarios
      notnow show smtp/overload         explain one of them, and its knobs
      notnow serve ftp/overload         run one, for a client in another terminal
      notnow try smtp/overload -- CMD   run a client under one, and judge what it did
      notnow sweep smtp -- CMD          run it with every fault at every event, and show where it loses something
      notnow storm smtp/overload        simulate a thousand clients, and what their back-off does to a server
      notnow replay mail.log            make a scenario of a recorded run
      notnow report URL                 judge the clients of a server that runs elsewhere
      notnow conduct                    list the rules by which clients are judged
    """


def main() -> None:
    """Run the command line; never returns."""
    _pid1.heed_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a character shows a question mark
    group(prog_name="notnow")


__all__ = ["COMMANDS", "Refused", "group", "main"]
