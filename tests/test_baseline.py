"""What a baseline knows of a run, and what it does not take. How `notnow try` uses one: tests/test_cli_try.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notnow.conduct.baseline import NOTHING_KNOWN, BaselineError, Known, read, write

RULES = ("smtp.tries-again", "smtp.jitter")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    lost = Known("lost", frozenset({"smtp.tries-again", "expect.delivered", "smtp.jitter"}))
    write(file, "smtp/overload", lost)
    write(file, "smtp/leaves", Known("delivered"))
    assert [read(file, run, RULES) for run in ("smtp/overload", "smtp/leaves", "smtp/other")] == [
        lost, Known("delivered"), NOTHING_KNOWN,
    ]  # fmt: skip
    write(file, "smtp/overload", Known())
    assert read(file, "smtp/overload", RULES) == NOTHING_KNOWN
    assert read(file, "smtp/leaves", RULES) == Known("delivered")


def test_a_file_is_easy_to_compare(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    write(file, "b", Known(None, frozenset({"z", "a"})))
    write(file, "a", Known("lost"))
    text = file.read_text("utf-8")
    runs = {"a": {"result": "lost", "broken": []}, "b": {"result": None, "broken": ["a", "z"]}}
    assert text == json.dumps({"notnow baseline": 1, "runs": runs}, indent=2) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON: "),
        ("[]", "is not a baseline: it lacks 'notnow baseline': 1; --write-baseline makes one"),
        ('{"notnow baseline": 2, "runs": {}}', "is not a baseline: it lacks 'notnow baseline': 1"),
        ('{"notnow baseline": 1, "runs": 5}', "runs is 5; allowed: a table of runs"),
        ('{"notnow baseline": 1, "runs": {"a": {}, "b": 5}}', "allowed: a table of runs"),
        ('{"notnow baseline": 1, "runs": {"a": {"broken": 5}}}', "runs.a.broken is 5; allowed: a list of rule ids"),
        ('{"notnow baseline": 1, "runs": {"a": {"broken": ["smtp.jitter", 5]}}}', "allowed: a list of rule ids"),
        ('{"notnow baseline": 1, "runs": {"a": {"broken": ["smtp.jiter"]}}}', "did you mean 'smtp.jitter'?"),
        ('{"notnow baseline": 1, "runs": {"a": {"result": "lsot"}}}', "did you mean 'lost'?"),
    ],
)
def test_what_is_no_baseline(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    file.write_text(text, "utf-8")
    with pytest.raises(BaselineError) as error:
        read(file, "a", RULES)
    assert str(error.value).startswith(str(file))
    assert said in str(error.value)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        BaselineError, match="cannot be read: No such file or directory; --write-baseline makes a baseline"
    ):
        read(tmp_path / "none.json", "a", RULES)
