"""`notnow replay`: a recorded run becomes a scenario, and a saved scenario is played against a client once more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from notnow.cli import Refused, cmd_try
from notnow.cli._options import client_words, takes_search_paths, writable
from notnow.cli.cmd_try import TryCommand
from notnow.terminal import safe

if TYPE_CHECKING:
    from notnow.chaos.replay.making import Made
    from notnow.conduct.pictures.report import Report
    from notnow.language.scenario import Scenario

OF_TRY = (
    "speed", "fake_time", "seed", "level", "accepted", "count", "role", "patterns", "timeout", "wait", "verbose", "as_json",
    "junit", "html", "summary", "explained",
)  # fmt: skip


class ReplayCommand(TryCommand):
    """A command that needs no client; with one, it takes the options of `try` as well."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx)[:-2], "[-- CMD…]"]


@click.command("replay", cls=ReplayCommand)
@click.argument("path", metavar="FILE")
@click.option(
    "-o", "--output", metavar="FILE", callback=writable,
    help="Write the scenario to FILE, which should end in .toml.  [default: standard output, unless there is a CMD]",
)  # fmt: skip
@click.option(
    "--server", default="", metavar="NAME", help="Take the entries of this server, from a journal of several servers."
)
@click.option(
    "--relay", default="", metavar="HOST",
    help="Take only the deliveries to this relay, from a mail.log; a glob such as '*.example.com'.",
)  # fmt: skip
@click.option(
    "--in-order", is_flag=True,
    help="From a mail.log: the n-th command meets what the n-th one met, whoever it names. Without this, commands are "
    "counted for each recipient and sender.",
)  # fmt: skip
@takes_search_paths
@click.pass_context
def command(
    ctx: click.Context,
    /,
    path: str,
    output: str | None,
    server: str,
    relay: str,
    in_order: bool,
    search_paths: Sequence[str],
    **of_try: Any,
) -> None:
    """Make a scenario of a recorded run, or play a saved one again.

    \b
    FILE is one of:
      a journal      JSON Lines of notnow serve --json, Journal.export or --notnow-trace, or a report of
                     notnow try --json. The scenario does what was done then, at the same events and times.
      a mail.log     of Postfix. The scenario defers whoever was deferred, as often and in the same words. Lines of
                     other programs are left out, and counted. A - reads standard input.
      a scenario     (.toml), such as one that notnow sweep or Hypothesis has saved; it needs a CMD.

    With CMD, the scenario is played against that client, as notnow try does, with its options and placeholders. The last
    line says FIXED if the client behaves well now, or STILL if it does not.

    \b
    Exit codes:
      0    the scenario was made; with CMD: FIXED
      1    STILL: the client broke a rule of --level or an expectation, or lost or duplicated something
      2    invalid arguments, or a file that cannot be read or holds nothing that can be played
      3    the client could not be run, hung, was killed by a signal, or never connected
      4    nothing was tested: no fault fired, nothing could be judged, or an expectation is inconclusive

    \b
    Examples:
      notnow replay notnow-traces/test_send.jsonl -o again.toml
      notnow replay /var/log/mail.log -o monday.toml
      zcat /var/log/mail.log.2.gz | notnow replay - --relay '*.example.com' -o monday.toml
      notnow replay again.toml -- python send.py {host} {port}
    """
    words = client_words(ctx, required=False)
    _refuse_options_of_try(ctx, words)
    if path.endswith(".toml") and not Path(path).is_dir():
        if not words:
            raise click.UsageError(
                f"{path} is a scenario already: put a client's command after --, or play it with notnow serve {path}"
            )
        if output is not None:
            raise click.UsageError(f"{path} is a scenario already: there is nothing to write to {output}")
        scenario = _saved(path, search_paths)
    else:
        made = _made(path, server=server, relay=relay, in_order=in_order)
        _tell(made, output, printing=not words)
        if not words:
            return
        scenario = _loaded(made, output or path)
    report = _played(scenario, words, of_try)
    _conclude(report, scenario.text, err=of_try["as_json"])
    ctx.exit(report.exit)


command.params[5:5] = [one for one in cmd_try.command.params if one.name in OF_TRY]


def _refuse_options_of_try(ctx: click.Context, words: Sequence[str]) -> None:
    """Options that are about a client, where there is none."""
    given = (one for one in command.params if one.name in OF_TRY)
    for one in given if not words else ():
        if ctx.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{one.opts[-1]} is about a client: put its command after --")


def _made(path: str, **how: Any) -> Made:
    """The scenario of the recording in a file. Raises Refused with the reason why there is none."""
    from notnow.chaos.replay import lines, making
    from notnow.chaos.replay.recording import ReplayError

    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else lines.opened(path) as file:
            return making.made(file, "standard input" if path == "-" else path, **how)
    except ReplayError as error:
        raise Refused([error]) from None
    except OSError as error:
        raise Refused([f"{path} cannot be read: {error.strerror or error}"]) from None


def _tell(made: Made, output: str | None, *, printing: bool) -> None:
    """Write the scenario where it is to be, and say on standard error what was read."""
    click.echo(safe(made.tally), err=True)
    if output is not None:
        Path(output).write_text(made.toml, "utf-8")
        click.echo(
            safe(f"wrote {output}: play it with notnow serve {output}, or notnow replay {output} -- CMD"), err=True
        )
    elif printing:
        click.echo(made.toml, nl=False)


def _saved(path: str, search_paths: Sequence[str]) -> Scenario:
    from notnow.language import catalogue

    return catalogue.scenario(path, search_paths=search_paths)


def _loaded(made: Made, name: str) -> Scenario:
    from notnow.language.loading import loads

    return loads(made.toml, name=name)


def _played(scenario: Scenario, words: Sequence[str], of_try: dict[str, Any]) -> Report:
    from notnow.cli._targets import DEFAULT_HOST, Target

    target = Target(scenario.protocol, scenario, DEFAULT_HOST, 0)
    return cmd_try.trial([target], words, **of_try)


def _conclude(report: Report, toml: str, *, err: bool) -> None:
    """FIXED or STILL, with the result then, if the scenario says it, and now."""
    from notnow.chaos.replay.making import found_in

    if report.exit > 1:
        return
    before, now = (
        found_in(toml).partition(", broke ")[0],
        report.result.word if report.result is not None else report.outcome,
    )
    words: str = now
    if before:
        words = f"{now}, as when this was saved" if before == now else f"{now} now, and {before} when this was saved"
    text, colour = (f"FIXED: {words}", "green") if report.exit == 0 else (f"STILL: {words}", "red")
    click.secho(safe(text), err=err, bold=True, fg=colour)
