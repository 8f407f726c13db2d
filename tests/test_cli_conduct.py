"""`notnow conduct`: the rules, listed and explained."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from notnow import protocols
from notnow.cli import group
from notnow.conduct import judging
from notnow.conduct.rules.rule import Rule

KEYS = ["id", "protocol", "level", "title", "why", "source", "occasion", "proof", "innocent", "example", "proxy"]


def conduct(*arguments: str, code: int = 0) -> str:
    """What it prints: to standard output, or to standard error where it is to refuse."""
    result = CliRunner().invoke(group, ["conduct", *arguments], prog_name="notnow")
    assert result.exit_code == code, result.output
    assert (result.stderr if code == 0 else result.stdout) == ""
    return result.stdout if code == 0 else result.stderr


def test_in_a_pipe_it_is_a_line_for_each_rule() -> None:
    lines = [line.split("\t") for line in conduct().splitlines()]
    assert lines == [[rule.id, rule.level, rule.title] for rule in judging.all_rules()]


def test_json_has_all_that_is_known() -> None:
    found = json.loads(conduct("--json"))
    assert [list(rule) for rule in found] == [KEYS] * len(judging.all_rules())
    (one,) = json.loads(conduct("smtp.wait-before-retry", "--json"))
    assert (one["protocol"], one["level"], one["source"]) == ("smtp", "must", "RFC 5321 §4.5.4.1")


@pytest.mark.parametrize("given", ["smtp.wait-before-retry", "wait-before-retry"])
def test_one_rule_is_explained(given: str) -> None:
    (rule,) = judging.select(["smtp.wait-before-retry"])
    text = conduct(given)
    assert text.startswith(f"smtp.wait-before-retry (must)\n{rule.title}\n")
    said = [line.strip() for line in text.splitlines()]
    assert [line for line in said if line in {"Why", "Source", "Broken by", "A run that breaks it"}] == [
        "Why", "Source", "Broken by", "A run that breaks it",
    ]  # fmt: skip
    assert all(line.strip() in said for line in [rule.why, rule.source, *rule.example.splitlines()])
    assert "notnow try NAME --rule smtp.wait-before-retry -- CMD" in said


@pytest.mark.parametrize("rule", judging.all_rules(), ids=lambda rule: rule.id)
def test_every_rule_can_be_explained(rule: Rule) -> None:
    assert rule.title in conduct(rule.id)
    assert rule.protocol in protocols.NAMES
    assert rule.title.endswith(".")
    assert rule.why.endswith(".")
    assert all((rule.source, rule.occasion, rule.proof, rule.innocent, rule.example))


@pytest.mark.parametrize("pattern", ["smtp.*-retry", "*-before-retry", "WAITS BEFORE"])
def test_a_pattern_or_a_word_chooses(pattern: str) -> None:
    ids = [line.partition("\t")[0] for line in conduct(pattern).splitlines()]
    assert "smtp.wait-before-retry" in ids
    assert "smtp.nothing-but-quit" not in ids


def test_what_matches_nothing_is_refused_with_what_was_meant() -> None:
    text = conduct("smtp.wait-before-rety", code=2)
    assert text.startswith("Error: no rule of conduct matches 'smtp.wait-before-rety'; allowed: a glob for ids, ")
    assert "`notnow conduct` prints them all" in text
    assert text.endswith("did you mean 'smtp.wait-before-retry'?\n")
    assert "did you mean 'smtp.nothing-but-quit'?" in conduct("nothing-but-qit", code=2)
