"""The page at `/`: what happens on a group of servers, drawn once here and kept up to date by `look/assets/page.js`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from notnow._version import __version__
from notnow.conduct.pictures import html
from notnow.conduct.pictures.chart import Chart
from notnow.conduct.pictures.lanes import picture
from notnow.control import api, timelines, verdicts
from notnow.control.fleet import Fleet, Member
from notnow.control.models import VerdictQuery
from notnow.look.rendering import render

ASSETS: Mapping[str, str] = {
    "look.css": "text/css; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
MOST = 200  # lanes
AT_ONCE = 5000  # exchanges: a judge takes so long for more that the first paint does not wait for it
SERVERS = 50  # of a group


def page(fleet: Fleet, group: str | None) -> str:
    """The page for a group of servers, by default the first. Raises RefusedError for an unknown group."""
    last = fleet.feed.last  # before anything is read, so that no event falls between the page and its stream
    members = list(timelines.group(fleet, group))
    return render(
        "page.html",
        version=__version__,
        last=last,
        group=members[0].group if members else "",
        groups=list(fleet.groups()),
        servers=[api.describe(member) for member in members[:SERVERS]],
        left_out=max(0, len(members) - SERVERS),
        rules={member.fake.name: api.rule_states(member.fake) for member in members[:SERVERS]},
        **_seen(members),
    )


def _seen(members: Sequence[Member]) -> dict[str, object]:
    """The timeline and the verdict, if there are servers; of a long journal, the page asks for them when it is there."""
    if not members or sum(len(member.fake.journal) for member in members) > AT_ONCE:
        return {"chart": None, "report": None}
    report = verdicts.report_on(members, VerdictQuery.model_validate({}))
    marked = [evidence for one in report.of("broken") for evidence in one.finding.evidence]
    return {"chart": Chart(picture(report.run, marked, most=MOST)), **html.words(report), "anchors": ()}
