"""What `serve` shows of an exchange that the journal tells of more than once: each reply once, and with it what moved."""

from __future__ import annotations

import json

import pytest

from notnow import FakeFTP, ManualClock, journal
from notnow.cli import _news
from notnow.cli._news import New, News
from notnow.cli._views import JSONView, LinesView, Score
from notnow.journal import Exchange, Recorder


class Transfer:
    """A RETR that opens with 150 and ends with another reply."""

    def __init__(self, last: str = "226 Transfer complete.", whole: bool = True) -> None:
        self.recorder = Recorder(ManualClock(), server="ftp", protocol="ftp")
        self.told: list[Exchange] = []
        self.recorder.journal.subscribe(lambda entry: self.told.append(entry))  # type: ignore[arg-type]
        connection = self.recorder.open("1", "127.0.0.1", 1)
        self.last, self.whole = last, whole
        self.exchange = self.recorder.ask(connection, "retr", "RETR a.txt", "p")
        self.recorder.facts(
            self.exchange, journal.Transfer("/a.txt", "download", None, offset=0, bytes=0, whole=False, data=None)
        )

    def begin(self) -> None:
        self.recorder.answer(self.exchange, "150 File status okay.")

    def end(self) -> None:
        ended = {"bytes": 12, "whole": self.whole, "data": None if self.whole else "fin"}
        self.recorder.more(self.exchange, **ended)
        self.recorder.clock.advance(3)  # type: ignore[attr-defined]
        self.recorder.answer(self.exchange, self.last)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split("RETR a.txt -> ")[1] for line in capsys.readouterr().out.splitlines()]


def test_a_transfer_that_is_seen_under_way_has_a_line_for_each_reply(capsys: pytest.CaptureFixture[str]) -> None:
    transfer, view = Transfer(), LinesView()
    transfer.begin()
    view.show(transfer.told, 0)
    transfer.end()
    view.show(transfer.told[1:], 0)
    assert lines(capsys) == ["150 File status okay.", "226 Transfer complete., sent 12 bytes"]


def test_one_that_is_over_before_it_is_shown_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    transfer, view = Transfer(), LinesView()
    transfer.begin()
    transfer.end()
    assert len(transfer.told) == 2
    view.show(transfer.told, 0)
    assert lines(capsys) == ["150 File status okay., 226 Transfer complete., sent 12 bytes"]


def test_the_bytes_are_not_told_with_the_first_reply(capsys: pytest.CaptureFixture[str]) -> None:
    transfer, view = Transfer("426 no", whole=False), LinesView()
    transfer.begin()
    transfer.recorder.more(transfer.exchange, bytes=12, data="fin")
    view.show(transfer.told, 0)
    transfer.end()
    view.show(transfer.told[1:], 0)
    assert lines(capsys) == ["150 File status okay.", "426 no, cut after 12 bytes"]


def test_two_replies_of_several_lines_each(capsys: pytest.CaptureFixture[str]) -> None:
    transfer, view = Transfer("226-One\n226 two\n421-Bye\n more\n421 now"), LinesView()
    transfer.end()
    view.show(transfer.told, 0)
    assert lines(capsys) == ["226-One (+1 line), 421-Bye (+2 lines), sent 12 bytes"]


def test_json_repeats_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    transfer, view = Transfer(), JSONView()
    transfer.begin()
    transfer.end()
    view.show(transfer.told, 0)
    transfer.recorder.tell(transfer.exchange)
    view.show(transfer.told[2:], 0)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["reply"].endswith("226 Transfer complete.")


def test_what_is_new_is_told_once_whatever_it_is() -> None:
    transfer, news = Transfer(), News()
    told = [bool(news.among([transfer.exchange]))]
    for change in (
        transfer.begin,
        lambda: transfer.recorder.more(transfer.exchange, stored=True),
        transfer.end,
        lambda: transfer.recorder.answer(transfer.exchange, "226-Two\n226 lines"),
        lambda: transfer.recorder.end(transfer.exchange),
    ):
        change()
        told += [bool(news.among([transfer.exchange])) for _ in range(2)]
    assert told == [True] + [True, False] * 5


@pytest.mark.parametrize("most", [1, 2, 100])
def test_exchanges_that_come_out_of_order_are_told_once(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(_news, "MOST", most)
    recorder, news = Recorder(ManualClock(), server="smtp"), News()
    connection = recorder.open("1", "127.0.0.1", 1)
    first, second, third = (recorder.ask(connection, "mail", f"MAIL {i}", "p") for i in range(3))
    assert news.among([second, connection, first]) == [second, connection, first]
    assert news.of(third) == New(True, (), False, False)
    assert news.among([third]) == []
    if most > 2:
        assert news.among([first, second, first]) == []
    recorder.answer(third, "250 ok")
    assert news.among([third, third]) == [third]
    for _ in range(300):
        assert len(news.among([recorder.ask(connection, "noop", "NOOP", "p")])) == 1
    assert len(news._told) + len(news._before) <= 2 * most


@pytest.mark.parametrize("at_once", [True, False])
def test_a_score_counts_each_refusal_and_each_file_once(at_once: bool) -> None:
    score = Score(FakeFTP())
    for transfer in (Transfer("426 no", whole=False), Transfer()):
        transfer.recorder.more(transfer.exchange, stored=transfer.whole)
        transfer.begin()
        if not at_once:
            score.count(transfer.told[0])
        transfer.end()
        for entry in transfer.told[0 if at_once else 1 :]:
            score.count(entry)
        score.news = News()  # another clock
    assert (score.stored, dict(score.refusals)) == (1, {"426": 1})
