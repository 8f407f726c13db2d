"""The atlas: what it says of a client is what the client has done, and docs/clients.md has every client."""

from __future__ import annotations

import re
import smtplib
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import atlas
import atlas_sweep
import ftp_clients
import http_clients
import pytest
import smtp_clients
from atlas import SCENARIOS, Entry, play, play_all
from atlas_page import page
from clients import Client, Report, need
from tables import Row

from notnow.chaos.sweeping import Terms

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
CHEAP = [
    Entry("smtp", smtp_clients.CLIENTS["smtplib"]),
    Entry("ftp", ftp_clients.CLIENTS["ftplib"]),
    Entry("http", http_clients.CLIENTS["httpx"]),
]


def cells(page: str, name: str) -> list[list[str]]:
    """The lines of the tables that begin with this name."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [line for line in lines if line[0] == name]


# ---- the page ---------------------------------------------------------------------------------------


def test_a_page_says_what_became_of_each_client() -> None:
    page = play_all(CHEAP)

    overview, overload, *_ = cells(page, "smtplib")
    assert re.fullmatch(r"\w+ 3\.\d+\.\d+.*", overview[1])
    assert overview[2:] == ["reported", "reported", "reported", "false alarm", "reported"]
    assert overload[1:5] == ["ConnectError 421", "no", "–", "reported"]
    overview, overload, *_ = cells(page, "ftplib")
    assert overview[2:] == [*["reported"] * 5, "false alarm"]
    assert overload[1:] == ["error_temp 421", "no", "–", "reported", "–"]
    overview, misdirected, *_ = cells(page, "httpx")
    assert re.fullmatch(r"[\d.]+", overview[1])
    assert misdirected[1:5] == ["got 421", "no", "–", "reported"]
    assert "smtp.tries-again" not in page, "that is the duty of whoever called smtplib"


def test_a_page_has_the_rules_that_were_broken_and_what_proves_it() -> None:
    def do(job: smtp_clients.Job) -> Report:
        send(job, times=2)
        return Report("sent")

    row = Row("smtp", "healthy", "none", "", {})
    text = page([play(Entry("smtp", Client("own", do), items=2), row)], {"own": "1.0"})
    assert "**`smtp.no-second-copy`** (must; RFC 5321 §4.2.5)" in text
    assert re.search(r"- `smtp #2 at [\d.]+m?s: \(\d+ bytes\) -> 250 2.0.0 Ok: queued`", text)


def test_the_page_of_the_documentation_has_everybody_and_everything() -> None:
    page = PAGE.read_text("utf-8")
    sections = dict(zip(atlas.PROTOCOLS, re.split(r"(?m)^## (?:SMTP|FTP|HTTP)$", page)[1:], strict=True))
    for entry in [*atlas.entries(), Entry("smtp", Client("Postfix", lambda job: Report("")))]:
        played = [row for row in SCENARIOS if entry.plays(row)]
        found = cells(sections[entry.protocol], entry.name)
        assert len(found) == 1 + len(played), f"run `python tests/contract/atlas.py > docs/clients.md` for {entry.name}"
        assert re.search(r"\d+\.\d+", found[0][1]), "a version"
    for row in SCENARIOS:
        assert f"### `{row.scenario}" in sections[row.protocol]


# ---- what it says of a client -----------------------------------------------------------------------


def of_smtp(do: Any, title: str = "healthy") -> atlas.Played:
    return play(Entry("smtp", Client("own", do), items=2), Row("smtp", title, "none", "", {}))


def send(job: smtp_clients.Job, times: int = 1) -> None:
    for _ in range(times):
        with smtplib.SMTP(job.host, job.port) as server:
            server.sendmail(job.sender, job.recipients, job.content)


def test_who_says_that_it_has_sent_and_has_not_has_lost_it() -> None:
    result = of_smtp(lambda job: Report("sent"))
    assert (result.outcome, result.again, result.broken) == ("lost", (), ())


def test_who_sends_twice_has_doubled_it() -> None:
    def do(job: smtp_clients.Job) -> Report:
        send(job, times=2)
        return Report("sent")

    result = of_smtp(do)
    assert result.outcome == "duplicated"
    assert "smtp.no-second-copy" in [v.rule.id for v in result.broken]


def test_who_comes_to_no_end_is_ended() -> None:
    def do(job: smtp_clients.Job) -> Report:
        raise subprocess.TimeoutExpired("own", 20)

    assert of_smtp(do).outcome == "hung"


def test_who_tries_again_is_seen_to_wait() -> None:
    def do(job: smtp_clients.Job) -> Report:
        while True:
            try:
                send(job)
            except smtplib.SMTPException:
                continue
            return Report("sent")

    result = of_smtp(do, "at-stage stage=message outage=0.5s")
    assert (result.outcome, result.where, result.when[:7]) == ("delivered", "new", "at once")
    assert "smtp.wait-before-retry" in [v.rule.id for v in result.broken]


def test_a_file_that_differs_is_not_delivered_whole() -> None:
    """The server took it for whole, and has no way of knowing better."""

    def do(job: ftp_clients.Job) -> Report:
        job.file.write_bytes(ftp_clients.UPLOAD[:1000])
        report = ftp_clients.CLIENTS["ftplib"].do(job)
        job.file.write_bytes(ftp_clients.UPLOAD)
        return report

    result = play(Entry("ftp", Client("own", do)), Row("ftp", "healthy", "put", "", {}))
    assert (result.said, result.outcome) == ("done", "delivered, but the file differs")


def test_a_get_over_http_that_comes_twice_counts_once() -> None:
    def do(job: http_clients.Job) -> Report:
        for _ in range(2):
            with urllib.request.urlopen(job.urls[0], context=job.context) as response:
                response.read()
        return Report("done")

    result = play(Entry("http", Client("own", do)), Row("http", "healthy", "get", "", {}))
    assert result.outcome == "delivered"
    assert result.again == (), "it had what it asked for, and looked again"


@pytest.mark.parametrize(
    ("name", "way", "cells", "line"),
    [
        ("smtplib", "none", ["rcpt#1:451", "message#1:kept-421"], "| smtplib | none | 2 | `rcpt#1:451` |  |  |  |"),
        ("curl", "none", ["rcpt#2:451", "data#1:421"], "| curl | none | 2 |  |  |  |  |"),
        ("ftplib", "get", ["retr#1:cut", "retr#1:421"], "| ftplib | get | 2 |  |  |  |  |"),
    ],
)
def test_a_client_is_swept(name: str, way: str, cells: list[str], line: str) -> None:
    protocol = "ftp" if way == "get" else "smtp"
    entry = next(one for one in atlas.entries() if (one.protocol, one.client.name) == (protocol, name))
    need(entry.client)
    matrix = atlas_sweep.swept(entry, way, Terms(count=entry.items, cells=cells))
    assert atlas_sweep.line(entry, way, matrix) == line
