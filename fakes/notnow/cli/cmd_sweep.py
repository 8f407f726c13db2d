"""`notnow sweep`: run a client with every fault at every event of its healthy run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from notnow import units
from notnow.cli._options import (
    ClientCommand,
    client_words,
    complete_name,
    duration,
    takes_own_servers,
    takes_search_paths,
    writable,
    writable_directory,
)
from notnow.terminal import safe_lines

if TYPE_CHECKING:
    from notnow.chaos.matrix import Matrix

INTERRUPTED = 130


@click.command("sweep", cls=ClientCommand)
@click.argument("name", metavar="PROTOCOL|NAME", shell_complete=complete_name)
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="Sweep with this fault only. May be repeated.")
@click.option("--at", multiple=True, metavar="MOMENT", help="Sweep the events at this moment only. May be repeated.")
@click.option(
    "--cell", "cells", multiple=True, metavar="ID",
    help="Run this cell only, such as rcpt#2:421, and tell it at length. May be repeated.",
)  # fmt: skip
@click.option("--pairs", is_flag=True, help="Two faults at a time as well: the second at each event after the first.")
@click.option(
    "--budget", callback=duration, metavar="DURATION",
    help="Start no cell after this time, in real time. The cells come in an order in which a part of them covers all kinds.",
)  # fmt: skip
@click.option(
    "--timeout", callback=duration, default="10s", show_default=True, metavar="DURATION",
    help="A client that runs longer than this, in real time, hangs; it is ended, with its child processes.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, metavar="N",
    help="Run this many cells side by side. Most of a client's time is waiting.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N",
    help="The client has this number of items: messages to a recipient, files, requests. By default, those of its healthy run.",
)  # fmt: skip
@click.option(
    "--level", type=click.Choice(("must", "should", "advice", "none")), default="must", show_default=True,
    help="A cell in which the client breaks a rule of conduct of this level or a stricter one has gone wrong.",
)  # fmt: skip
@click.option(
    "--before", metavar="CMD", help="Run this command before each run of the client, such as one that fills its queue."
)
@click.option("--after", metavar="CMD", help="Run this command after each run of the client.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, metavar="X",
    help="Run scenario time X times as fast as real time.",
)  # fmt: skip
@click.option(
    "--fake-time", is_flag=True,
    help="Run the client's clock at --speed as well, so that its waits between two tries shrink. Needs the program faketime.",
)  # fmt: skip
@click.option(
    "--set", "knobs", multiple=True, metavar="KNOB=VALUE", help="Set a knob of the scenario NAME. May be repeated."
)
@click.option(
    "--save",
    metavar="DIR",
    callback=writable_directory,
    help="Write the scenario of each cell that went wrong to this directory; `notnow try` plays it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the matrix as one JSON object.")
@click.option(
    "--junit", metavar="FILE", callback=writable, help="Write a test case for each cell to FILE as JUnit XML."
)
@click.option("--html", metavar="FILE", callback=writable, help="Write the matrix to FILE as HTML.")
@click.option(
    "--summary", metavar="FILE", callback=writable,
    help="Append the matrix to FILE as Markdown, for the summary page of a CI job ($GITHUB_STEP_SUMMARY).",
)  # fmt: skip
@takes_own_servers
@takes_search_paths
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    faults: Sequence[str],
    at: Sequence[str],
    cells: Sequence[str],
    pairs: bool,
    budget: float | None,
    timeout: float,
    jobs: int,
    count: int | None,
    level: str,
    before: str | None,
    after: str | None,
    speed: float,
    fake_time: bool,
    knobs: Sequence[str],
    save: str | None,
    as_json: bool,
    junit: str | None,
    html: str | None,
    summary: str | None,
    own: Mapping[str, Sequence[str]],
    search_paths: Sequence[str],
) -> None:
    """Run a client with every fault at every event, and show the losses.

    First the client runs twice against a healthy server, which shows what it does: its events, such as its second RCPT. Then it
    runs once for each event and each fault there (421, a close, a cut, silence, …). Each of these servers is fresh, and
    healthy but for that one fault, so a client that tries again can always succeed. The result is a matrix: a row for each
    event, a column for each fault, and in the cell what became of the client's items.

    PROTOCOL is smtp, ftp or http; NAME is a scenario without faults, for its [server]. CMD is the client's command line, as
    for notnow try: {host}, {port}, {url} and {ca_file} stand for the server, and NOTNOW_HOST, NOTNOW_PORT, NOTNOW_URL and
    NOTNOW_CA_FILE in its environment say the same. Its output is kept, and shown for the worst cells.

    \b
    Exit codes:
      0    no cell went wrong
      1    in a cell the client lost, doubled or exposed an item, denied its success, hung, or broke a rule of --level
      2    invalid arguments; nothing was started
      3    the client could not be run, or fails without any fault
      4    nothing was tested: no fault fired
      130  you stopped it with Ctrl-C; the cells so far are shown

    \b
    Examples:
      notnow sweep smtp -- python send.py {host} {port}
      notnow sweep smtp --cell rcpt#2:421 -- python send.py {host} {port}
      notnow sweep ftp --files ./in --before 'rm -rf out' -- ./fetch-all {host} {port}
      notnow sweep http --fault 421 --fault 503 -- ./report {url} {ca_file}
      notnow sweep smtp --pairs --budget 60s --html sweep.html -- ./send {host} {port}
      notnow sweep smtp --speed 600 --fake-time -- ./patient {host} {port}
    """
    from msgspec.structs import replace

    from notnow.chaos import calling, showing, writing
    from notnow.chaos.sweeping import Sweep, SweepError
    from notnow.cli import _sweeping
    from notnow.cli._targets import resolve
    from notnow.conduct.rules.rule import up_to

    words = client_words(ctx)
    (target,) = resolve([calling.base_name(name)], search_paths=search_paths, knobs=knobs, own=own)
    base = calling.base_for(target.scenario)
    terms = calling.terms_of(base, faults=faults, at=at, cells=cells)
    levels = () if level == "none" else up_to(level)
    terms = replace(terms, pairs=pairs, budget=budget, count=count, levels=levels)
    with (
        _sweeping.players(ctx, target, timeout=timeout, speed=speed, fake_time=fake_time) as player,
        _sweeping.progress() as told,
    ):
        player.around = {"--before": before, "--after": after}
        try:
            matrix = Sweep(base, player, terms, player.side_by_side(jobs), told).run()
        except (SweepError, _sweeping.CannotRun) as error:
            if player.interrupted:
                ctx.exit(INTERRUPTED)
            said = [f"client: {line}" for line in getattr(error, "output", "").splitlines()]
            raise Failed(safe_lines("\n".join([str(error), *said]))) from None
    _write(matrix, save=save, junit=junit, html=html, summary=summary)
    if as_json:
        writing.write_json(matrix, sys.stdout)
    else:
        told_at_length = matrix.outcomes if cells else None
        showing.print_matrix(matrix, told_at_length, again=_sweeping.again(ctx, words))
    if not fake_time and any(outcome.word == "hung" for outcome in matrix.outcomes):
        click.echo(_may_have_waited(timeout), err=True)
    ctx.exit(INTERRUPTED if player.interrupted else matrix.exit)


def _may_have_waited(timeout: float) -> str:
    """A client that waits for its next try looks like one that hangs."""
    return (
        f"hung: it was ended after {units.show(timeout)} (--timeout). If it was only waiting for its next try, give it longer, "
        "or let its hours pass in seconds: --speed 600 --fake-time"
    )


class Failed(click.ClickException):
    """The client cannot be run, or fails without any fault."""

    exit_code = 3


def _write(matrix: Matrix, *, save: str | None, junit: str | None, html: str | None, summary: str | None) -> None:
    from notnow.chaos import writing

    if save is not None:
        writing.save(matrix, Path(save))
    if junit is not None:
        Path(junit).write_text(writing.junit(matrix), "utf-8", errors="replace")
    if html is not None:
        Path(html).write_text(writing.html(matrix), "utf-8", errors="replace")
    if summary is not None:
        with Path(summary).open("a", encoding="utf-8", errors="replace") as file:
            file.write(writing.markdown(matrix))
