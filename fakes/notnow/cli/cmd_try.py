"""`notnow try`: run one client under a scenario, and judge what it did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from notnow.cli import Refused
from notnow.cli._options import (
    ClientCommand,
    client_words,
    complete_name,
    duration,
    takes_own_servers,
    takes_search_paths,
    writable,
)

if TYPE_CHECKING:
    from notnow.cli._targets import Target
    from notnow.conduct.baseline import Known
    from notnow.conduct.pictures.report import Report
    from notnow.conduct.rules.rule import Rule


LEVELS = ("must", "should", "advice")  # copies, so that --help need not load the rules
ACCEPTABLE = ("reported", "refused", "duplicated", "false alarm", "unknown", "lost")
STDERR = 2


class TryCommand(ClientCommand):
    """`--explain` without a number stands for `--explain 0`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*_with_numbers(args[:ours]), *args[ours:]])


def _with_numbers(args: Sequence[str]) -> Iterator[str]:
    for arg, after in pairwise([*args, ""]):
        yield arg
        if arg == "--explain" and not after.lstrip("-").isdecimal():
            yield "0"


def _baseline(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Check before the client runs that the baseline can be written, where it is to be."""
    return writable(ctx, param, path) if ctx.params.get("write_baseline") else path


@click.command("try", cls=TryCommand)
@click.argument("names", nargs=-1, required=True, metavar="[SERVER=]NAME…", shell_complete=complete_name)
@click.option(
    "--set", "knobs", multiple=True, metavar="[SERVER.]KNOB=VALUE",
    help="Set a knob of the scenario, on all servers that know it or on one. May be repeated.",
)  # fmt: skip
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, metavar="X",
    help="Run scenario time X times as fast as real time: at 60, an outage of 10m takes 10 seconds.",
)  # fmt: skip
@click.option(
    "--fake-time", is_flag=True,
    help="Run the client's clock at --speed as well, so that its sleeps and time-outs shrink with the outage. Needs the "
    "program faketime (libfaketime).",
)  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed for all chances in a scenario.  [default: random, and shown]")
@click.option(
    "--level", type=click.Choice(LEVELS), default="should", show_default=True,
    help="Fail if the client breaks a rule of this level or a stricter one. Other broken rules are only shown.",
)  # fmt: skip
@click.option(
    "--accept", "accepted", multiple=True, type=click.Choice(ACCEPTABLE), metavar="RESULT",
    help="Accept this result: reported, refused, duplicated, 'false alarm', unknown or lost. Then the scenario does not "
    "expect otherwise, and with reported, a client that says by its exit code what did not come through need not try "
    "again. Other rules of conduct stay. May be repeated.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N",
    help="The client was given this number of items: messages to a recipient, files, requests. Settles what the journal "
    "cannot tell.",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(("client", "proxy")), default="client", show_default=True,
    help="Judge it as a client, or as an intermediary (a proxy) that acts for other clients; `notnow conduct ID` says where "
    "that differs.",
)  # fmt: skip
@click.option(
    "--baseline", metavar="FILE", callback=_baseline,
    help="A file of known faults: they are shown, and only new faults fail the client. --write-baseline writes it.",
)  # fmt: skip
@click.option(
    "--write-baseline", is_flag=True, is_eager=True,
    help="Note the faults of this run in the file of --baseline, in place of its entry for these scenarios.",
)  # fmt: skip
@click.option(
    "--rule", "patterns", multiple=True, metavar="ID",
    help="Judge only this rule, whatever its level, or those of a pattern (smtp.*); skip what the scenario expects. May be repeated.",
)  # fmt: skip
@click.option(
    "--timeout", callback=duration, default="10m", show_default=True, metavar="DURATION",
    help="End a client that runs longer than this, with its child processes. In real time, not scenario time.",
)  # fmt: skip
@click.option(
    "--wait", callback=duration, default="0s", metavar="DURATION",
    help="Keep running this long after the client has ended, for a client that works on in the background. In real time.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="List also the rules that this run did not exercise.")
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
@click.option(
    "--explain", "explained", type=click.IntRange(min=0), multiple=True, metavar="[N]",
    help="Say for exchange N why each rule of the scenario fired or did not. Without N, list the exchanges with their "
    "numbers. May be repeated.",
)  # fmt: skip
@takes_own_servers
@takes_search_paths
@click.pass_context
def command(
    ctx: click.Context,
    names: Sequence[str],
    knobs: Sequence[str],
    speed: float,
    fake_time: bool,
    seed: int | None,
    level: str,
    accepted: Sequence[str],
    count: int | None,
    role: str,
    baseline: str | None,
    write_baseline: bool,
    patterns: Sequence[str],
    timeout: float,
    wait: float,
    verbose: bool,
    as_json: bool,
    junit: str | None,
    html: str | None,
    summary: str | None,
    explained: Sequence[int],
    own: Mapping[str, Sequence[str]],
    search_paths: Sequence[str],
) -> None:
    """Run one client against fake servers, and judge what it did.

    CMD is the client's command line. In CMD, {host}, {port}, {url} and {ca_file} (a CA to trust) stand for the first
    server, and {SERVER.port} and so on for the server of that name; other braces stay as they are. The client also
    finds NOTNOW_HOST, NOTNOW_PORT, NOTNOW_URL and NOTNOW_CA_FILE in its environment. Its output passes through (with
    --json, to standard error). Then notnow prints the result, a timeline, and a verdict for each rule of conduct that the
    run exercised and for each expectation of the scenario. notnow conduct explains the rules.

    \b
    Results:
      delivered      every item came through, once
      refused        every missing item was refused for good, or the client rightly kept it back
      reported       not every item came through, and the client's exit code says so
      lost           not every item came through, and the client exited with 0
      duplicated     an item came through twice
      false alarm    every item came through, and the client's exit code denies it
      hung           the client did not end
      unknown        the journal cannot tell; --count N often settles it
      nothing asked  the client asked for nothing

    \b
    Exit codes:
      0    well behaved: something was tested, and everything came through or was reported
      1    the client broke a rule of --level or an expectation, or the result is lost, duplicated or false alarm
      2    invalid arguments; nothing was started
      3    the client could not be run, hung, was killed by a signal, or never connected
      4    nothing was tested: no fault fired, nothing could be judged, or an expectation is inconclusive
      130  you stopped it with Ctrl-C

    \b
    Examples:
      notnow try smtp/overload --set outage=5s -- python send.py {host} {port}
      notnow try smtp/overload -- swaks --server {host}:{port} --to b@x.test
      notnow try ftp/killed-mid-upload -- lftp -e 'put big.iso; quit' ftp://{host}:{port}
      notnow try primary=smtp/overload backup=smtp/healthy -- ./send {primary.port} {backup.port}
      notnow try smtp/overload --set outage=1h --speed 900 --fake-time -- ./patient {host} {port}
      notnow try smtp/greylisting --level must --junit report.xml --html report.html -- ./send {url}
      notnow try smtp/overload --accept reported --count 3 -- ./send-three {host} {port}
      notnow try smtp/overload --baseline known.json --write-baseline -- ./old-client {url}
      notnow try http/overload --upstream http://127.0.0.1:8000 -- ./fetch {url} {ca_file}
      notnow try smtp/overload --wait 30s -- ./start-daemon {host} {port}
    """
    from notnow.cli._targets import resolve

    words = client_words(ctx)
    targets = resolve(names, search_paths=search_paths, knobs=knobs, own=own)
    if write_baseline and baseline is None:
        raise click.UsageError("--write-baseline needs --baseline FILE: the file to write")
    report = trial(
        targets,
        words,
        speed=speed,
        fake_time=fake_time,
        seed=seed,
        level=level,
        accepted=accepted,
        count=count,
        role=role,
        baseline=baseline,
        write_baseline=write_baseline,
        patterns=patterns,
        timeout=timeout,
        wait=wait,
        verbose=verbose,
        as_json=as_json,
        junit=junit,
        html=html,
        summary=summary,
        explained=explained,
    )
    ctx.exit(report.exit)


def trial(
    targets: Sequence[Target],
    words: Sequence[str],
    *,
    speed: float = 1.0,
    fake_time: bool = False,
    seed: int | None = None,
    level: str = "should",
    accepted: Sequence[str] = (),
    count: int | None = None,
    role: str = "client",
    baseline: str | None = None,
    write_baseline: bool = False,
    patterns: Sequence[str] = (),
    timeout: float = 600.0,
    wait: float = 0.0,
    verbose: bool = False,
    as_json: bool = False,
    junit: str | None = None,
    html: str | None = None,
    summary: str | None = None,
    explained: Sequence[int] = (),
) -> Report:
    """Run the client of these words against these servers, and print the report; the arguments are the options of `try`."""
    from notnow.cli import _client, _judged
    from notnow.cli._serving import Feed, running, signals_stop
    from notnow.conduct.baseline import NOTHING_KNOWN
    from notnow.conduct.reporting import Terms
    from notnow.conduct.reporting import report as judged
    from notnow.conduct.rules.rule import up_to
    from notnow.servers.listening import listening

    rules = _rules(targets, patterns)
    known = _known(targets, baseline) if baseline is not None and not write_baseline else NOTHING_KNOWN
    before = _client.faketime(speed) if fake_time else []
    feed = Feed()
    with signals_stop(feed), running(targets, feed, speed=speed, seed=seed) as fakes:
        client = _client.run(
            _client.fill(words, fakes),
            _client.environment(fakes),
            feed,
            _judged.Progress(fakes),
            before=before,
            timeout=timeout,
            wait=wait,
            stdout=STDERR if as_json else None,
        )
        levels = up_to(LEVELS[-1] if patterns else level)
        terms = Terms(rules, levels, not patterns, accepted, count, role == "proxy", known)
        # Before the fakes stop, because their last replies are not part of the run.
        report = judged(fakes, client, [listening(fake) for fake in fakes], speed, terms)
        if baseline is not None and write_baseline:
            report = _note(report, targets, baseline)
        _show(report, as_json=as_json, verbose=verbose, junit=junit, html=html, summary=summary)
        for index in explained:
            said = _judged.explanation(fakes, index) if index else _judged.exchanges(fakes)
            click.echo("\n".join(said), err=as_json)
    return report


def _rules(targets: Sequence[Target], patterns: Sequence[str]) -> list[Rule]:
    """The rules to judge, of the protocols of these targets."""
    from notnow.conduct.judging import UnknownRuleError, of_protocol, select

    protocols = dict.fromkeys(target.scenario.protocol for target in targets)
    among = [rule for protocol in protocols for rule in of_protocol(protocol)]
    try:
        return select(patterns, among) if patterns else among
    except UnknownRuleError as error:
        raise Refused([error]) from None


# ---- the baseline --------------------------------------------------------------------------------


def _known(targets: Sequence[Target], path: str) -> Known:
    """What the baseline says of a run of these scenarios."""
    from notnow.conduct import baseline
    from notnow.conduct.judging import all_rules

    try:
        return baseline.read(Path(path), _run_name(targets), [rule.id for rule in all_rules()])
    except baseline.BaselineError as error:
        raise Refused([error]) from None


def _note(report: Report, targets: Sequence[Target], path: str) -> Report:
    """Write the faults of this run into the baseline; they are known from now on, also to this report."""
    from notnow.conduct import baseline

    result = report.result.word if report.result is not None and report.failed else None
    known = baseline.Known(result, frozenset(one.rule.id for one in report.offences))
    try:
        baseline.write(Path(path), _run_name(targets), known)
    except (baseline.BaselineError, OSError) as error:
        raise Refused([error]) from None
    return replace(report, baseline=known)


def _run_name(targets: Sequence[Target]) -> str:
    return ", ".join(target.scenario.name for target in targets)


def _show(
    report: Report, *, as_json: bool, verbose: bool, junit: str | None, html: str | None, summary: str | None
) -> None:
    from notnow.conduct.pictures import text
    from notnow.conduct.pictures.report import write_json, write_junit

    if junit is not None:
        write_junit(report, junit)
    if html is not None:
        from notnow.conduct.pictures.html import page

        Path(html).write_text(page(report), "utf-8", errors="replace")
    if summary is not None:
        from notnow.conduct.pictures.markdown import page as markdown

        with Path(summary).open("a", encoding="utf-8", errors="replace") as file:
            file.write(markdown(report))
    if as_json:
        write_json(report, sys.stdout)
        if report.exit > 1:
            click.echo(text.summary(report), err=True)
    else:
        text.print_report(report, verbose=verbose)
