"""The page at `/`: what happens on a group of servers, drawn once here and kept up to date by the modules of `look/assets`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from notnow._version import __version__
from notnow.conduct.pictures import html
from notnow.conduct.pictures.chart import Chart
from notnow.conduct.pictures.lanes import picture
from notnow.control import api, timelines, verdicts
from notnow.control.fleet import Fleet, Member
from notnow.control.models import VerdictQuery
from notnow.hosts import is_loopback
from notnow.look.rendering import assets, render

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
ASSETS: Mapping[str, str] = {name: TYPES[name.rpartition(".")[2]] for name in assets()}  # names and media types
MOST = 200  # lanes
AT_ONCE = 5000  # exchanges: a judge takes so long for more that the first paint does not wait for it
SERVERS = 50  # of a group


def page(fleet: Fleet, group: str | None, host: str) -> str:
    """The page at `host` for a group of servers, by default the first. Raises RefusedError for an unknown group."""
    last = fleet.feed.last  # before anything is read, so that no event falls between the page and its stream
    members = list(timelines.group(fleet, group))
    return render(
        "page.html",
        version=__version__,
        last=last,
        start_line=_start_line(host),
        group=members[0].group if members else "",
        groups=list(fleet.groups()),
        servers=[api.describe(member) for member in members[:SERVERS]],
        left_out=max(0, len(members) - SERVERS),
        rules={member.fake.name: api.rule_states(member.fake) for member in members[:SERVERS]},
        **_seen(members),
    )


def _start_line(host: str) -> str:
    """A command that starts a server."""
    known = (
        "" if is_loopback(host.rpartition(":")[0].strip("[]") or host) else ' -H "Authorization: Bearer $NOTNOW_TOKEN"'
    )
    body = """-H 'Content-Type: application/json' -d '{"scenario": "smtp/overload"}'"""
    return f"curl{known} {body} {shlex.quote(f'http://{host}/v1/servers')}"


def _seen(members: Sequence[Member]) -> dict[str, object]:
    """The timeline and the verdict, if there are servers; of a long journal, the page asks for them when it is there."""
    if not members or sum(len(member.fake.journal) for member in members) > AT_ONCE:
        return {"chart": None, "report": None}
    report = verdicts.report_on(members, VerdictQuery.model_validate({}))
    marked = [evidence for one in report.of("broken") for evidence in one.finding.evidence]
    return {"chart": Chart(picture(report.run, marked, most=MOST)), **html.words(report), "anchors": ()}
