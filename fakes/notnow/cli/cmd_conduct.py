"""`notnow conduct`: list and explain the rules of conduct."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from notnow.cli import Refused
from notnow.errors import Problem, nearest

if TYPE_CHECKING:
    from notnow.conduct.rules.rule import Rule


PATTERN = 'a glob for ids, such as "smtp.*", or a word of ids and titles; `notnow conduct` prints them all'


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from notnow.conduct.judging import all_rules

    return [CompletionItem(rule.id, help=rule.title) for rule in all_rules() if rule.id.startswith(incomplete)]


@click.command("conduct")
@click.argument("pattern", required=False, metavar="[ID|PATTERN]", shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print the rules as a JSON list, with all their fields.")
def command(pattern: str | None, as_json: bool) -> None:
    """List the rules of conduct, or explain one.

    With the ID of a rule, explain it: what it asks for and why, its source, what proves a breach, and a run that breaks
    it. With a PATTERN, list the rules whose id matches a glob, or whose id or title contains a word. In a pipe, each
    line is id, level and title, separated by tabs.

    Levels: a standard demands a "must" and recommends a "should"; "advice" is good practice.

    \b
    Examples:
      notnow conduct                          list all rules
      notnow conduct smtp.wait-before-retry   explain one
      notnow conduct 'smtp.*'                 list by glob
      notnow conduct retry                    list the rules about retrying
      notnow conduct --json | jq -r '.[] | select(.level == "must") | .id'
    """
    from notnow.conduct.judging import all_rules

    rules = all_rules()
    one = next((rule for rule in rules if pattern in (rule.id, rule.id.partition(".")[2])), None)
    chosen = [one] if one else [rule for rule in rules if pattern is None or _matches(pattern, rule)]
    if not chosen:
        raise Refused([_nothing(pattern or "*", rules)])
    if as_json:
        click.echo(json.dumps([_as_dict(rule) for rule in chosen], indent=2, ensure_ascii=False))
    elif one:
        _explain(one)
    else:
        _list(chosen)


def _matches(pattern: str, rule: Rule) -> bool:
    from notnow.language.catalogue import is_pattern

    word = pattern.lower()
    if is_pattern(word):
        return fnmatch.fnmatchcase(rule.id, word) or fnmatch.fnmatchcase(rule.id.partition(".")[2], word)
    return word in rule.id or word in rule.title.lower()


def _nothing(pattern: str, rules: Sequence[Rule]) -> Problem:
    ids = [rule.id for rule in rules]
    short = {rule_id.partition(".")[2]: rule_id for rule_id in ids}
    near = nearest(pattern, ids) or short.get(nearest(pattern, short) or "")
    return Problem(f"no rule of conduct matches {pattern!r}", allowed=PATTERN, nearest=near)


def _as_dict(rule: Rule) -> dict[str, str]:
    return {
        "id": rule.id,
        "protocol": rule.protocol,
        "level": rule.level,
        "title": rule.title,
        "why": rule.why,
        "source": rule.source,
        "occasion": rule.occasion,
        "proof": rule.proof,
        "innocent": rule.innocent,
        "example": rule.example,
        "proxy": _of_proxy(rule),
    }


def _of_proxy(rule: Rule) -> str:
    """What it asks of an intermediary; empty if it asks the same."""
    asks = rule.proxy
    if asks is None:
        return ""
    if asks.free:
        return f"asks nothing: {asks.says}"
    if asks.others:
        return f"inconclusive where a client breaks it: it did, {asks.says}"
    return f"{asks.says} Level: {asks.level or rule.level}."


def _list(rules: Sequence[Rule]) -> None:
    from notnow.page import Page

    page = Page()
    if not page.is_terminal:
        for rule in rules:
            click.echo(f"{rule.id}\t{rule.level}\t{rule.title}")
        return
    for protocol, same in groupby(rules, key=lambda rule: rule.protocol):
        page.heading(protocol)
        page.columns([(rule.id, rule.level, rule.title) for rule in same], ("cyan", "dim", ""), indent=2)
    some = "1 rule" if len(rules) == 1 else f"{len(rules)} rules"
    page.line(f"{some}. To explain one: notnow conduct ID. To judge a client: notnow try NAME -- CMD", style="dim")


def _explain(rule: Rule) -> None:
    from rich.text import Text

    from notnow.page import Page

    page = Page()
    page.line(Text.assemble((rule.id, "bold cyan"), (f" ({rule.level})", "dim")))
    page.line(rule.title)
    parts = (
        ("Why", rule.why),
        ("Source", rule.source),
        ("Judged where", rule.occasion),
        ("Broken by", rule.proof),
        ("Innocent explanations ruled out", rule.innocent),
        ("With --role proxy", _of_proxy(rule)),
    )
    for title, text in ((title, text) for title, text in parts if text):
        page.line()
        page.heading(title)
        page.line(text[:1].upper() + text[1:], indent=2)
    page.line()
    page.heading("A run that breaks it")
    for line in rule.example.splitlines():
        page.line(line, indent=2, style="yellow")
    page.line()
    page.heading("Try it")
    page.line(f"notnow try NAME --rule {rule.id} -- CMD", indent=2, style="cyan")
    page.line(f'fake_{rule.protocol}.assert_conduct("{rule.id}")', indent=2, style="cyan")
