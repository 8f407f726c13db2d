"""The page on security: each claim names a test that exists, and some claims that no other test holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ftp_client import Raw
from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.servers.base.fake import Fake

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ") and "| test |" not in line]
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]*)`", row[-1])})


def names_in(file: str) -> set[str]:
    """The names of the tests in a file, as pytest says them."""
    found = set[str]()
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_every_claim_names_a_test(row: list[str]) -> None:
    assert len(row) == 3
    assert all("::test_" in name for name in re.findall(r"`([^`]*)`", row[2]) or [""])


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    assert test in names_in(file)


@pytest.mark.parametrize("fake", [FakeSMTP, FakeFTP, FakeHTTP])
def test_fakes_listen_on_this_machine_alone(fake: type[Fake]) -> None:
    with fake() as one:
        assert one.host == "127.0.0.1"
        assert one._bridge.listener._sock.getsockname() == ("127.0.0.1", one.port)


@pytest.mark.parametrize("line", ["SITE \x1b[31m\rHELP", "TYPE \x1b", "OPTS \x07\r", "WHAT\x1b[2J"])
def test_a_reply_does_not_repeat_a_control_character(line: str) -> None:
    with FakeFTP() as fake, Raw(fake).hello() as raw:
        reply = raw.say(line)
        assert reply.startswith("50")
        assert reply.isprintable()
        assert raw.say("NOOP").startswith("200")
