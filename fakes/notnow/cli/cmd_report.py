"""`notnow report`: the verdict of fakes that run elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from notnow.cli import Refused
from notnow.cli._options import writable
from notnow.errors import Problem

if TYPE_CHECKING:
    from notnow.control.client import Answer, Client

LEVELS = ("must", "should", "advice")  # copies, so that --help need not load the rules
ACCEPTABLE = ("reported", "refused", "duplicated", "false alarm", "unknown", "lost")
EXIT = "notnow-exit"
REDIS = ("redis://", "rediss://", "unix://")
Fetch = Callable[[str, bool], tuple[bytes, int]]  # a format, and whether it is verbose -> the report, and the exit code


@click.command("report")
@click.argument("url", metavar="URL")
@click.option(
    "--server", "servers", multiple=True, metavar="NAME",
    help="Judge only the clients of this server. May be repeated.  [default: all servers]",
)  # fmt: skip
@click.option(
    "--level", type=click.Choice(LEVELS), default="should", show_default=True,
    help="Fail if a client broke a rule of this level or a stricter one.",
)  # fmt: skip
@click.option(
    "--accept", "accepted", multiple=True, type=click.Choice(ACCEPTABLE), metavar="RESULT",
    help="Accept this result: reported, refused, duplicated, 'false alarm', unknown or lost. May be repeated.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="The client was given this number of items.")
@click.option(
    "--exit", "ended", type=click.IntRange(0, 255), metavar="CODE",
    help="The client's exit code: it tells a client that reported its failure from one that lost its items.",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(("client", "proxy")), default="client", show_default=True,
    help="Judge it as a client, or as an intermediary (a proxy).",
)  # fmt: skip
@click.option(
    "--token",
    envvar="NOTNOW_TOKEN",
    metavar="TOKEN",
    help="The token of notnow serve, if it asks for one.  [env: NOTNOW_TOKEN]",
)
@click.option("-v", "--verbose", is_flag=True, help="List also the rules that these runs did not exercise.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report, journals included, as one JSON object.")
@click.option(
    "--junit", metavar="FILE", callback=writable, help="Write the verdicts to FILE as JUnit XML, for a CI server."
)
@click.option(
    "--html",
    metavar="FILE",
    callback=writable,
    help="Write the report to FILE as HTML, with the timeline as a picture.",
)
@click.option(
    "--summary", metavar="FILE", callback=writable,
    help="Append the report to FILE as Markdown, for the summary page of a CI job ($GITHUB_STEP_SUMMARY).",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    url: str,
    servers: Sequence[str],
    level: str,
    accepted: Sequence[str],
    count: int | None,
    ended: int | None,
    role: str,
    token: str | None,
    verbose: bool,
    as_json: bool,
    junit: str | None,
    html: str | None,
    summary: str | None,
) -> None:
    """Judge the clients of fakes that run elsewhere, as notnow try does.

    URL is that of a control API, as notnow serve --control prints it, or of the Redis in which replicas (notnow serve
    --shared) have gathered their journals. Clients are judged by what they did since the
    scenario was last played. Servers that were started alone are judged one by one: the exit code is that of the worst.

    \b
    Exit codes:
      0    well behaved: something was tested, and everything came through or was reported
      1    a client broke a rule of --level or an expectation, or the result is lost, duplicated or false alarm
      2    invalid arguments, or no control API, or no service, at the URL
      3    no client has connected
      4    nothing was tested: no fault fired, nothing could be judged, or an expectation is inconclusive

    \b
    Examples:
      notnow report http://127.0.0.1:8421
      notnow report http://127.0.0.1:8421 --exit $? --count 40
      notnow report http://127.0.0.1:8421 --server primary --junit report.xml --html report.html
      notnow report redis://redis:6379/0?name=ci-42
      notnow report http://127.0.0.1:8421 --summary "$GITHUB_STEP_SUMMARY"
    """
    query: dict[str, Any] = {
        "server": servers,
        "level": level,
        "accept": accepted,
        "count": count,
        "exit": ended,
        "role": role,
    }
    _check_url(url)
    fetch = _of_replicas(url, query) if url.startswith(REDIS) else _of_control_api(url, token, query)
    for path, kind in ((junit, "junit"), (html, "html")):
        if path is not None:
            Path(path).write_bytes(fetch(kind, False)[0])
    if summary is not None:
        with Path(summary).open("ab") as file:
            file.write(fetch("markdown", False)[0])
    told, code = fetch("json" if as_json else "text", verbose)
    click.echo(told.decode().rstrip("\n"), color=True)
    ctx.exit(code)


def _check_url(url: str) -> None:
    """Raises Refused for what is in this file system: a name of its own would be taken for that of a host."""
    if not os.path.exists(url):  # noqa: PTH110 (which says no to what can be no path)
        return
    kind = "directory" if Path(url).is_dir() else "file"
    allowed = "the URL of a control API, as `notnow serve --control` prints it, or redis://HOST:PORT/0?name=NAME"
    hint = "`notnow replay FILE -- CMD` plays the journal of a recorded run again, and judges the client"
    raise Refused([Problem(f"{url!r} is a {kind}, and journals in files are not judged", allowed=allowed, hint=hint)])


def _of_replicas(url: str, query: dict[str, Any]) -> Fetch:
    from notnow.cli import _shared_report

    report = _shared_report.report(url, query)
    return lambda kind, verbose: (_shared_report.FORMATS[kind](report, verbose).encode(), report.exit)


def _of_control_api(url: str, token: str | None, query: dict[str, Any]) -> Fetch:
    from notnow.control.client import Client
    from notnow.errors import ControlError, ScenarioError

    def fetch(kind: str, verbose: bool) -> tuple[bytes, int]:
        try:
            answer = _fetch(Client(url, token), kind, {**query, "verbose": "true" if verbose else None})
        except ScenarioError as error:
            raise Refused(error.problems) from None
        except (ControlError, ValueError) as error:
            raise Refused([error]) from None
        return answer.body, int(answer.headers[EXIT])

    return fetch


def _fetch(client: Client, kind: str, query: dict[str, object]) -> Answer:
    """The verdict in this format. Raises ControlError where no control API of notnow answers."""
    from notnow.errors import ControlError

    more: dict[str, object] = {"journals": "true"} if kind == "json" else {}
    if kind == "text" and sys.stdout.isatty():
        more["terminal"] = min(400, max(20, shutil.get_terminal_size().columns))
    answer = client.call("GET", "/v1/verdict", query={"format": kind, **query, **more})
    if EXIT not in answer.headers:
        raise ControlError(f"{client.url} answers, and not as a control API of notnow does")
    return answer
