"""What clients say is printed so that it does nothing: by one function, on every way to a reader."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock, pytest_report
from notnow.cli import Refused, _lines
from notnow.cli._views import LinesView
from notnow.conduct.judging import judge
from notnow.conduct.pictures import html, verdict
from notnow.conduct.pictures.report import Client, Report, write_json, write_junit
from notnow.conduct.pictures.text import print_report
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.errors import WaitTimeoutError
from notnow.journal import ConnectionLost, Facts, Journal, Message, Recorder, Request, Transfer
from notnow.language import catalogue
from notnow.page import Page
from notnow.terminal import by_direction, isolated, safe, safe_lines

ESC, OSC, C1, BIDI = "\x1b[31mRED", "\x1b]0;owned\x07", "\x9b2J", "\u202egnp.exe\u2066"
NASTY = [
    ESC, OSC, C1, BIDI, "a\rFAKE", "x\x08\x08lie", "\x7f", "\x85S  250 faked", "a\u2028b\u2029c", "\u200b\u200f\ufeff",
    "\udc9b", "\x0bup\x0c", "[bold red]markup[/]", "[link=http://x.test]x[/link]", "\U000e0041", "\ufffe", "a\nb",
]  # fmt: skip
clients_say = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=[]), min_size=1, max_size=30)


def unsafe(text: str) -> list[str]:
    """The characters of a text that would do something at a terminal."""
    return [c for c in text if not c.isprintable() and c != "\n" and unicodedata.category(c) != "Zs"]


# ---- the function ------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", NASTY)
def test_what_does_something_is_shown_instead(harm: str) -> None:
    assert not unsafe(safe(harm))
    assert "\n" not in safe(harm)


@pytest.mark.parametrize(
    "text", ["", "EHLO client.test", "Grüße, 世界", "naïve [bold]", "a\u3000b\xa0c", "😀", r"C:\x"]
)
def test_what_is_only_read_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


def test_it_is_shown_as_python_escapes_it() -> None:
    assert safe(ESC + C1 + BIDI + "\udc80\r\n") == r"\x1b[31mRED\x9b2J\u202egnp.exe\u2066\udc80\r\n"
    assert safe_lines("a\nb\rc") == "a\nb\\rc"


@given(st.text(st.characters(exclude_categories=[])))
def test_once_safe_it_stays_so_and_nothing_printable_is_lost(text: str) -> None:
    once = safe(text)
    assert not unsafe(once)
    assert safe(once) == once
    kept = "".join(c for c in text if not unsafe(c) and c != "\n")
    assert re.sub(r"\\(x..|u....|U.{8}|[tnr])", "", once) == kept or "\\" in text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_that_run_from_right_to_left_are_told_apart_and_nothing_is_lost(text: str) -> None:
    pieces = list(by_direction(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(
        turns == any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in piece) for piece, turns in pieces
    )


def test_an_isolate_ends_where_its_word_does() -> None:
    assert isolated("RETR שלום 12") == "RETR \u2068שלום\u2069 12"


# ---- every way to a reader ---------------------------------------------------------------------


def journals(text: str) -> list[Journal]:
    """A refused attempt and one that came through, for each protocol, with a client's text wherever there can be one."""
    clock = ManualClock()
    return [_seen(Recorder(clock, server=protocol, protocol=protocol), text) for protocol in ("smtp", "ftp", "http")]


def _seen(recorder: Recorder, text: str) -> Journal:
    protocol = recorder.journal.protocol
    recorder.mark("play", f"{protocol}/overload")
    for i, came in enumerate((False, True), 1):
        connection = recorder.open(f"{protocol}-{i}", "127.0.0.1", 1)
        recorder.tls(connection, version="TLSv1.3", sni=text, certificate=text, alpn=text, error=None if came else text)
        recorder.answer(recorder.ask(connection, "connect", "", "p"), "220 hello")
        for exchange in (recorder.ask(connection, m, f"{m} {text}", "p") for m in _MOMENTS[protocol]):
            recorder.facts(exchange, _FACTS[protocol](text, came))
            if not came:
                recorder.refused(exchange, "reply", "phase[0].rule[0]")
                recorder.end(exchange)
            recorder.answer(exchange, f"250 ok {text}" if came else f"421 not now {text}")
        recorder.answer(recorder.ask(connection, "noop", text, "p"), f"550 {text}\n421 {text}")
        recorder.failed(connection, ConnectionLost(text))
        if not came:
            recorder.said_after(connection, f"{text} more\r\n{text}".encode("utf-8", "surrogatepass"))
        recorder.close(connection, "client" if came else "fake")
        recorder.clock.advance(10)  # type: ignore[attr-defined]
    return recorder.journal


_MOMENTS = {"smtp": ("message",), "ftp": ("retr",), "http": ("request",)}
_FACTS: dict[str, Callable[[str, bool], Facts | None]] = {
    "smtp": lambda text, came: Message(f"<{text}>", "0", text, (text,)) if came else None,
    "ftp": lambda text, came: Transfer(
        f"/{text}", "download", "passive", offset=0, bytes=3, whole=came, data=None if came else "fin"
    ),
    "http": lambda text, came: Request(
        stream=1, version="2", method=text, authority=text, host=text, path=f"/{text}", misdirected=(text,),
        status=200 if came else 421, body_bytes=0, body_sha256=None, sent=0, whole=came, stored=came,
    ),
}  # fmt: skip


def _report(seen: list[Journal], text: str) -> Report:
    run = Run(seen, [catalogue.scenario(f"{j.protocol}/overload") for j in seen])
    servers = [
        {"event": "listening", "name": j.server, "scenario": f"{j.protocol}/overload", "protocol": j.protocol,
         "host": "127.0.0.1", "port": 1, "url": "smtp://x", "ca_file": None, "seed": 1}
        for j in seen
    ]  # fmt: skip
    return Report(Client(("client", text), 0), run, judge(run), servers, 1.0, ("must", "should", "advice"))


def _lines_of(seen: list[Journal], _: str) -> str:
    view = LinesView()
    with redirect_stdout(io.StringIO()) as out:
        for journal in seen:
            view.show([*journal.marks, *journal.exchanges, *journal.connections], 0)
    return out.getvalue()


def _live(seen: list[Journal], _: str) -> str:
    pieces = [_lines.entry_line(entry, 0, 4) for j in seen for entry in (*j.marks, *j.exchanges, *j.connections)]
    return "\n".join(_lines.styled(line).plain for line in pieces)


def _tried(seen: list[Journal], text: str, *, terminal: bool = False) -> str:
    out = io.StringIO()
    page = Page()
    page.console = Console(file=out, force_terminal=terminal, no_color=True, color_system=None, width=200, markup=False)
    page.is_terminal = terminal
    report = _report(seen, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("notnow.conduct.pictures.text.Page", lambda _: page)
        print_report(report, verbose=True)
    for line in (text, text + text):
        page.line(line)
        page.heading(line)
        page.columns([(line, line)], ("", ""))
    return out.getvalue()


def _on_a_terminal(seen: list[Journal], text: str) -> str:
    return _tried(seen, text, terminal=True)


def _assertion(seen: list[Journal], _: str) -> str:
    kinds = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
    said = []
    for journal in seen:
        fake = kinds[journal.protocol]()
        fake.journal = journal
        for claim in (
            lambda fake=fake: fake.assert_delivered(times=3),
            lambda fake=fake: fake.assert_conduct(level="advice"),
            lambda fake=fake: fake.assert_new_connection_after(450),
            lambda fake=fake: fake.assert_never_exceeded(connections=0),
        ):
            try:
                claim()
            except AssertionError as error:
                said.append(str(error))
    assert len(said) >= 3 * len(seen)  # conduct may find nothing to say of some
    return "\n".join(said)


def _section(seen: list[Journal], _: str) -> str:
    fakes = [FakeSMTP(), FakeFTP(), FakeHTTP()]
    for fake, journal in zip(fakes, seen, strict=True):
        fake.journal = journal
    return pytest_report.section(fakes, None)


def _verdicts(seen: list[Journal], text: str) -> str:
    return "\n".join(verdict.in_words(one) for one in _report(seen, text).verdicts)


def _page_of(seen: list[Journal], text: str) -> str:
    return re.sub("[\u2068\u2069]", "", html.page(_report(seen, text)))  # ours, in pairs


def _json(seen: list[Journal], text: str) -> str:
    out = io.StringIO()
    write_json(_report(seen, text), out)
    for journal in seen:
        journal.export(out)
    return out.getvalue()


def _refusal(_: list[Journal], text: str) -> str:
    out = io.StringIO()
    Refused([text, f"there is no {text}"]).show(out)
    return out.getvalue()


WAYS: dict[str, Callable[[list[Journal], str], str]] = {
    "serve, in lines": _lines_of,
    "serve, live": _live,
    "try, in a pipe": _tried,
    "try, on a terminal": _on_a_terminal,
    "pytest's report section": _section,
    "wait_for": lambda seen, _: render(seen),
    "with marks": lambda seen, _: "\n".join(render([j], [j.exchanges[1], j.connections[0]]) for j in seen),
    "assertions": _assertion,
    "verdicts": _verdicts,
    "HTML": _page_of,
    "JSON": _json,
    "errors": _refusal,
}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(text=clients_say)
@example(text="".join(NASTY))
def test_nothing_that_a_client_says_does_anything(way: str, text: str) -> None:
    said = WAYS[way](journals(text), text)
    assert said
    assert not unsafe(said)
    assert "FAKE" not in [line.strip() for line in said.split("\n")]


def test_junit_is_xml_and_does_nothing(tmp_path: Path) -> None:
    text = "".join(NASTY)
    write_junit(_report(journals(text), text), str(tmp_path / "r.xml"))
    written = (tmp_path / "r.xml").read_text("utf-8")
    assert not unsafe(re.sub(r"(?m)^\t+", "", written))  # its own indentation
    assert "".join(ET.fromstring(written).itertext())


def test_markup_is_text() -> None:
    said = _on_a_terminal(journals("[bold red]markup[/]"), "[bold red]markup[/]")
    assert "[bold red]markup[/]" in said


def test_html_isolates_words_that_run_from_right_to_left() -> None:
    page = html.page(_report(journals("שלום"), "שלום"))
    assert "<bdi>" in page
    outside = re.sub(r"<bdi>[^<]*</bdi>|\u2068[^\u2069]*\u2069", "", page)
    assert "שלום" not in outside


def test_wait_for_says_it_safely() -> None:
    import smtplib

    with FakeSMTP() as fake, smtplib.SMTP(fake.host, fake.port, timeout=10) as client:
        client.docmd(f"NOOP {ESC}{OSC}")
        with pytest.raises(WaitTimeoutError) as caught:
            fake.wait_for(lambda _: False, timeout=0)
        assert not unsafe(str(caught.value))
