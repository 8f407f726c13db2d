"""`notnow serve`: fakes that run until they are stopped."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from notnow.cli._options import Command, complete_name, takes_own_servers, takes_search_paths

if TYPE_CHECKING:
    from notnow.cli._outlet import Outlet
    from notnow.cli._serving import Feed, ServingTerms
    from notnow.cli._targets import Target
    from notnow.cli._views import View

MOST_WORKERS = 64


@click.command("serve", cls=Command)
@click.argument("names", nargs=-1, metavar="[SERVER=]NAME…", shell_complete=complete_name)
@click.option(
    "--set", "knobs", multiple=True, metavar="[SERVER.]KNOB=VALUE",
    help="Set a knob of the scenario, on all servers that know it or on one. May be repeated.",
)  # fmt: skip
@click.option(
    "--host", "hosts", multiple=True, metavar="[SERVER=]HOST", help="Listen on this address.  [default: 127.0.0.1]"
)
@click.option(
    "--port", "ports", multiple=True, metavar="[SERVER=]PORT",
    help="Listen on this port; without SERVER, it is for the first server.  [default: any free port]",
)  # fmt: skip
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, metavar="X",
    help="Run scenario time X times as fast as real time: at 60, an outage of 10m takes 10 seconds. With --control, 0 "
    "lets it stand still until it is advanced.",
)  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed for all chances in a scenario.  [default: random, and shown]")
@click.option(
    "--control", metavar="[HOST:]PORT",
    help="Also serve the control API and its page on this port (0: any), for tests in any language: start fakes, swap "
    "scenarios, advance the clock, fetch verdicts. Needs notnow[control]. A HOST that is not loopback asks callers for the "
    "token in NOTNOW_TOKEN, or for a random one, which is printed.",
)  # fmt: skip
@click.option(
    "--shared", metavar="URL",
    help="Be one of any number of replicas that count together in this Redis (redis://HOST:PORT/0): caps, quotas, counts, phases "
    "and time are those of all. Mail, files and what an app remembers stay with the replica that has them, and so do servers that "
    "tests start, unless they are shared. Needs notnow[shared].",
)  # fmt: skip
@click.option(
    "--shared-name", metavar="NAME",
    help="With --shared: the name of the service, so that several can use one Redis.  [default: made from servers and scenarios]",
)  # fmt: skip
@click.option(
    "--lease", metavar="TIME", help="With --shared: the slots of a replica that was killed are free after this time.  [default: 10s]"
)  # fmt: skip
@click.option(
    "--when-lost", type=click.Choice(("closed", "open")),
    help="With --shared: while Redis is away, refuse clients (closed) or behave as healthy (open).  [default: closed]",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), default=1, metavar="N",
    help="Serve the clients of each server with N processes, to use the cores of this machine (Linux only). Caps, quotas, "
    "counts and phases hold over all of them; there is one journal, one mailbox and one tree of files. With --shared, they are those of one replica.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: where each server listens, then the journals.")
@takes_own_servers
@takes_search_paths
def command(
    names: Sequence[str],
    knobs: Sequence[str],
    hosts: Sequence[str],
    ports: Sequence[str],
    speed: float,
    seed: int | None,
    control: str | None,
    shared: str | None,
    shared_name: str | None,
    lease: str | None,
    when_lost: str | None,
    workers: int,
    as_json: bool,
    own: Mapping[str, Sequence[str]],
    search_paths: Sequence[str],
) -> None:
    """Run fake servers, each with a scenario, until Ctrl-C or SIGTERM.

    NAME is a name from the catalogue (see notnow list) or the path of a .toml file. The servers are called smtp,
    smtp2, … unless SERVER= gives another name. They share one clock.

    With --control, NAME may be left out: tests start servers of their own over HTTP. The page at the printed URL shows
    what happens, and notnow report URL judges it.

    On a terminal, notnow shows a live view; in a pipe, it prints a line for each event.

    With --files, --app, --upstream or --forward, a fake stands in front of what you have: rules come first, and yours
    gets the rest. Without SERVER, the option is for every server of its protocol. A fake never relays to another machine.

    \b
    Examples:
      notnow serve smtp/overload --set outage=30s
      notnow serve smtp/overload --port 2525
      notnow serve smtp/greylisting --speed 60          its 5 minutes take 5 seconds
      notnow serve primary=smtp/overload backup=smtp/healthy --port primary=2525 --port backup=2526
      notnow serve primary=smtp/overload backup=smtp/healthy --control 8421
      notnow serve smtp/too-many-connections --set cap=500 --workers 4
      notnow serve http/overload --upstream http://127.0.0.1:8000
      notnow serve http/rate-limited --app main:app
      notnow serve smtp/greylisting --forward smtp://127.0.0.1:1025
      notnow serve a=ftp/overload b=ftp/healthy --files a=./site
      notnow serve smtp/too-many-connections --port 2525 --shared redis://redis:6379/0
      notnow serve smtp/weather --seed 7 --json | jq -r 'select(.reply) | .reply'
    """
    from notnow.cli._serving import ServingTerms
    from notnow.cli._targets import resolve

    if not names and control is None:
        raise click.UsageError("no scenario: name one, as in notnow serve smtp/overload (or give --control PORT)")
    if speed == 0 and control is None:
        raise click.UsageError(
            "--speed is 0, and nobody could advance the clock; allowed: more, or --control PORT as well"
        )
    targets = resolve(names, search_paths=search_paths, knobs=knobs, hosts=hosts, ports=ports, own=own)
    where = _address(control) if control is not None else None
    service = _service(shared, targets, speed, {"name": shared_name, "lease": lease, "when-lost": when_lost})
    _serve(targets, _view(as_json), ServingTerms(speed, seed, where, search_paths, _token(), service, workers))


def _service(url: str | None, targets: Sequence[Target], speed: float, words: Mapping[str, str | None]) -> str | None:
    """The URL of the service that the replicas are, with what the options say of it."""
    if url is None:
        if given := [name for name, value in words.items() if value is not None]:
            option = "--shared-name" if given[0] == "name" else f"--{given[0]}"
            raise click.UsageError(f"{option} is given without --shared URL, which says where the counts are")
        return None
    from notnow.shared.address import service

    return service(url, {t.name: t.scenario for t in targets}, {**words, "speed": f"{speed:g}"}, option="--shared")


def _token() -> str | None:
    """The token of the user's choice: one that cannot be guessed, and that a header, a cookie and a link can carry."""
    token = os.environ.get("NOTNOW_TOKEN")
    if token and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", token):
        raise click.UsageError("NOTNOW_TOKEN does not fit; allowed: 16 to 200 letters, digits, - and _")
    return token or None


def _address(text: str) -> tuple[str, int]:
    """The host and port of `[HOST:]PORT`."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.UsageError(f"--control is {text!r}; allowed: PORT or HOST:PORT, with a port from 0 (any) to 65535")
    return host.strip("[]") or "127.0.0.1", int(port)


def _view(as_json: bool) -> View:
    from notnow.cli import _views

    if as_json:
        return _views.JSONView()
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return _views.LinesView()
    return _views.LiveView()


def _serve(targets: Sequence[Target], view: View, terms: ServingTerms) -> None:
    from notnow.cli._outlet import outlet
    from notnow.cli._serving import Feed, serving, signals_stop

    feed = Feed()
    with (
        signals_stop(feed),
        _broken_pipe_is_a_stop(),
        outlet(lambda: feed.stopping) as out,
        ExitStack() as after,
        serving(targets, feed, terms) as served,
    ):
        after.callback(_finish, view, feed, out)  # once they have stopped
        view.begin(served.fakes(), served.control)
        while not feed.stopping:
            entries = feed.take(view.refresh)
            view.know(served.fakes())
            view.show(entries, feed.take_dropped())
            time.sleep(view.pace)


def _finish(view: View, feed: Feed, out: Outlet | None) -> None:
    """Show the last entries, and the servers' replies as they stopped, unless the reader does not read."""
    while (out is None or not out.left) and (entries := feed.take(0)):
        view.show(entries, 0)
    view.show([], feed.take_dropped())
    view.end()


@contextmanager
def _broken_pipe_is_a_stop() -> Iterator[None]:
    """The reader is gone, which means stop. The rest of the buffer must not fail at exit."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
