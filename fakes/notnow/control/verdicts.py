"""Verdicts over HTTP: the report of `notnow try` on servers that run, in each of its formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from notnow.conduct import reporting
from notnow.conduct.judging import of_protocol
from notnow.conduct.pictures.report import EXITS, Client, Report, as_dict, junit
from notnow.conduct.rules.rule import up_to
from notnow.control.calls import MEDIA_TYPES, Content, call
from notnow.control.fleet import Fleet, Member
from notnow.control.models import Verdict, VerdictQuery
from notnow.control.problems import RefusedError
from notnow.look.rendering import policy
from notnow.servers.listening import listening

EXIT = "notnow-exit"  # the header with the exit code that `notnow report` ends with


@call("GET", "/v1/verdict", errors=(404,), media=("text", "junit", "markdown", "html"), answer=Verdict, long=True)
def judge_clients(fleet: Fleet, query: VerdictQuery) -> Content:
    """Judge what clients did since the last play, as `notnow try` does.

    JSON is its report: `outcome`, `exit`, `result`, `verdicts`, and so on. Servers that do not share a clock are judged by
    themselves: the answer is the report of the worst, and `others` has those of the rest. The header Notnow-Exit has the
    exit code of `try`. `exit` says how the client ended, so that the result can tell a client that reported its failure
    from one that lost its items; `count` is how many items it was given.
    """
    groups = fleet.groups(query.server)
    if not groups:
        raise RefusedError(404, "there is no server to judge the clients of; start one with POST /v1/servers")
    reports = [report_on(members, query) for members in groups.values()]
    reports.sort(key=lambda report: _WORST.index(report.exit))  # stable: of equals, the first that was started
    content = _FORMATS[query.format](reports, query)
    headers = {EXIT: str(reports[0].exit)}
    if query.format == "html":
        headers["content-security-policy"] = policy()  # the guard's lets no stylesheet stand in a page
    return Content(MEDIA_TYPES[query.format], content, headers)


_WORST = (1, 3, 4, 130, 2, 0)  # exit codes of `try`
assert set(EXITS.values()) <= set(_WORST)


def report_on(members: Sequence[Member], query: VerdictQuery) -> Report:
    fakes = [member.fake for member in members]
    terms = reporting.Terms(
        [rule for protocol in dict.fromkeys(fake.protocol for fake in fakes) for rule in of_protocol(protocol)],
        up_to(query.level),
        accepted=query.accept,
        count=query.count,
        proxy=query.role == "proxy",
    )
    client = Client((), query.exit)
    return reporting.report(fakes, client, [listening(fake) for fake in fakes], members[0].clock.speed, terms)


def _json(reports: Sequence[Report], query: VerdictQuery) -> str:
    first, *others = [as_dict(report, journals=query.journals, most=query.most) for report in reports]
    return json.dumps({**first, "others": others})


def _text(reports: Sequence[Report], query: VerdictQuery) -> str:
    from notnow.conduct.pictures.text import as_text

    found = [as_text(report, verbose=query.verbose, terminal=query.terminal) for report in reports]
    if len(found) > 1:
        found = [f"{one.names} ({one.scenarios})\n\n{text}" for one, text in zip(reports, found, strict=True)]
    return "\n".join(found)


def _markdown(reports: Sequence[Report], _query: VerdictQuery) -> str:
    from notnow.conduct.pictures.markdown import page

    return "\n".join(map(page, reports))


def _html(reports: Sequence[Report], _query: VerdictQuery) -> str:
    from notnow.conduct.pictures.html import page

    return page(reports[0], reports[1:])


def _junit(reports: Sequence[Report], _query: VerdictQuery) -> str:
    return junit(reports)


_FORMATS: Mapping[str, Callable[[Sequence[Report], VerdictQuery], str]] = {
    "json": _json,
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "junit": _junit,
}
