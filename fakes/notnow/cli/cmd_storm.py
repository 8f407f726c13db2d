"""`notnow storm`: what a crowd of clients with a back-off does to a server of finite capacity."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from notnow.cli._options import Command, complete_name, duration, takes_search_paths, writable

if TYPE_CHECKING:
    from notnow.chaos.crowd.figures import Storm
    from notnow.chaos.crowd.terms import Terms

INTERRUPTED = 130
MEANT = "if that is not meant, give them a wait: constant(1s), or exponential(base=1s, jitter=full)"
DEFAULT = "exponential(base=1m, factor=2, cap=1h, jitter=full)"


@click.command("storm", cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_name)
@click.option(
    "--policy", "policies", multiple=True, metavar="POLICY",
    help=f"What clients do about a failed attempt, as below. May be repeated, to compare.  [default: {DEFAULT}]",
)  # fmt: skip
@click.option("--clients", type=int, default=1000, show_default=True, metavar="N", help="So many clients.")
@click.option(
    "--capacity", metavar="RATE",
    help="The server does this many items per s, m, h or d.  [default: that of the scenario, or 200/s]",
)  # fmt: skip
@click.option(
    "--refusal-cost", metavar="SHARE",
    help="A refusal costs the server this share of the work for an item.  [default: that of the scenario, or 10%]",
)  # fmt: skip
@click.option(
    "--queue",
    type=int,
    metavar="N",
    help="The server refuses a client when this many wait.  [default: that of the scenario, or none]",
)
@click.option(
    "--outage",
    callback=duration,
    metavar="DURATION",
    help="The knob `outage` of the scenario, as --set outage=DURATION.",
)
@click.option(
    "--arrivals", metavar="RATE",
    help="New items keep coming at this rate, at random times and to random clients.  [default: one item a client]",
)  # fmt: skip
@click.option(
    "--spread", callback=duration, default="0s", show_default=True, metavar="DURATION",
    help="Without --arrivals: the items come at random times within this time, and not all at the start.",
)  # fmt: skip
@click.option(
    "--timeout", callback=duration, default="30s", show_default=True, metavar="DURATION",
    help="A client waits this long for its answer. The server does the work all the same.",
)  # fmt: skip
@click.option(
    "--horizon", callback=duration, metavar="DURATION",
    help="The simulation ends at this time, if not before.  [default: 1d; with --arrivals, 1h]",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed for everything random.")
@click.option(
    "--set", "knobs", multiple=True, metavar="KNOB=VALUE", help="Set a knob of the scenario. May be repeated."
)
@click.option(
    "--drained-within", callback=duration, metavar="DURATION",
    help="Exit 1 unless with every policy the last item from before the recovery was through, or given up, this long after it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures and the series over time as one JSON object.")
@click.option("--html", metavar="FILE", callback=writable, help="Write the table and the pictures to FILE as HTML.")
@click.option("--svg", metavar="FILE", callback=writable, help="Draw the pictures into FILE as SVG.")
@takes_search_paths
@click.pass_context
def command(
    ctx: click.Context,
    /,
    name: str,
    policies: Sequence[str],
    drained_within: float | None,
    as_json: bool,
    html: str | None,
    svg: str | None,
    knobs: Sequence[str],
    search_paths: Sequence[str],
    **of_terms: Any,
) -> None:
    """Simulate a crowd of clients with a back-off, and its server.

    The server plays the scenario NAME and does so many items a second, in the order in which they come. The clients are
    simulated, in scenario time: nothing connects, and a day takes seconds. Each has an item to get through; with
    --arrivals, new ones keep coming. A figure for each policy says how fast all was well again, and at what cost.

    \b
    A POLICY is words joined by +, one of them a wait:
      constant(5m)   linear(base=1m, step=1m, cap=1h)   waits(1m, 5m, 15m)
      exponential(base=1m, factor=2, cap=1h, jitter=none|full|equal|decorrelated)
                     the waits; the last one of a list comes again and again
      mine:wait      your own, from a module of the current directory: a tenacity wait or Retrying, a stamina
                     caller, a function that one of these has decorated, a urllib3 Retry, a list of
                     seconds, a text as here, or a function (attempt) or (attempt, rng) that returns seconds
      run.json       the back-off of a client in a report of notnow try --json; or, as run.jsonl, in a
                     journal of notnow serve --json
      attempts(8)    give up after 8 attempts; within(5d) gives up after 5 days
      budget(20%)    retries are a share of new items at most; without budget, give up
      grpc()         gRPC's retry throttling: give up while half of the last attempts fail
      breaker(failures=5, open=1m)    a circuit breaker for each client, with half-open
      tokens(1/s, burst=5)            a token bucket for each client
      throttle(k=2)                   client-side throttling, of Google's SRE book
      retry_after()                   wait at least as long as Retry-After says

    \b
    Exit codes:
      0    the storm was simulated
      1    with a policy, the items from before the recovery took longer than --drained-within
      2    invalid arguments; nothing was simulated
      130  you stopped it with Ctrl-C; nothing is shown

    \b
    Examples:
      notnow storm smtp/overload --clients 10000 --outage 10m --policy 'constant(5m)' \\
          --policy 'exponential(base=1m, cap=1h, jitter=full)'
      notnow storm http/overload --arrivals 150/s --timeout 10s --policy 'constant(1s)' --policy 'constant(1s) + budget(10%)'
      notnow storm smtp/overload --policy mine:wait --drained-within 15m
      notnow storm smtp/overload --policy run.json --html storm.html
    """
    from notnow.chaos.crowd import running, showing, writing
    from notnow.chaos.crowd.terms import terms

    (scenario,) = _scenarios(name, knobs, search_paths)
    found = terms(scenario, knobs={}, **of_terms)
    made = [_policy(text) for text in policies or (DEFAULT,)]
    for one in made:
        if one.never_waits:
            click.secho(
                f"notnow: {one.name} never waits, so its clients come again at once; {MEANT}", err=True, fg="yellow"
            )
    with _progress(found, len(made)) as told, _stopped(ctx):
        storms = [running.simulated(found, one, told(number, one.name)) for number, one in enumerate(made)]
    if html is not None:
        Path(html).write_text(writing.html(storms, writing.title(found)), "utf-8", errors="replace")
    if svg is not None:
        Path(svg).write_text(writing.svg(storms, writing.title(found)), "utf-8", errors="replace")
    if as_json:
        json.dump(writing.as_dict(storms, found), sys.stdout)
        click.echo()
    else:
        showing.print_storms(storms, writing.title(found))
    ctx.exit(_verdict(storms, drained_within, err=as_json))


@contextlib.contextmanager
def _stopped(ctx: click.Context) -> Iterator[None]:
    """Ctrl-C ends the command with an exit code of its own."""
    try:
        yield
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)


def _verdict(storms: Sequence[Storm], within: float | None, *, err: bool) -> int:
    """Say which policies did not drain in time; the exit code."""
    from notnow.chaos.crowd.showing import letters
    from notnow.units import show

    if within is None:
        return 0
    late = [name for name, one in zip(letters(len(storms)), storms, strict=True) if not one.drained_within(within)]
    if late:
        click.secho(f"notnow: not drained within {show(within)} of the recovery: {', '.join(late)}", err=err, fg="red")
    return 1 if late else 0


def _scenarios(name: str, knobs: Sequence[str], search_paths: Sequence[str]) -> list[Any]:
    from notnow.cli._targets import resolve

    return [target.scenario for target in resolve([name], search_paths=search_paths, knobs=knobs)]


def _policy(text: str) -> Any:
    from notnow.chaos.policies import policy
    from notnow.cli._app import load

    return policy(text, load=lambda name: load(name, "--policy", "wait", _may_be_one))


def _may_be_one(given: object) -> bool:
    return callable(given) or isinstance(given, (list, tuple, str)) or hasattr(given, "new")  # urllib3's Retry has it


@contextlib.contextmanager
def _progress(terms: Terms, count: int) -> Iterator[Callable[[int, str], Any]]:
    """On a terminal, a bar on standard error while the simulation runs; elsewhere, nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from notnow.units import show

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=terms.horizon * count)

        def of(number: int, name: str) -> Callable[[float, int, int], None]:
            def told(now: float, settled: int, attempts: int) -> None:
                said = f"{name}: {show(now)}, {settled} items settled, {attempts} attempts"
                bar.update(task, completed=terms.horizon * number + now, description=said)

            return told

        yield of
