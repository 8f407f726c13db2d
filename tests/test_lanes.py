"""The picture of a run: lanes to scale, with characters and as SVG."""

from __future__ import annotations

import re

from notnow import FakeSMTP, ManualClock
from notnow.conduct.pictures.html import svg
from notnow.conduct.pictures.lanes import Picture, picture, strip
from notnow.conduct.reading.run import Run
from smtp_client import CarefulSender, Raw, one, rules, then

REFUSED = one("connect", reply="421 4.3.2 not now")


def retried(*gaps: float, texts: tuple[str, ...] = (REFUSED,)) -> tuple[FakeSMTP, Picture]:
    """A client that comes again after each gap (seconds), against a server that is down for 100 seconds."""
    clock = ManualClock()
    with FakeSMTP(rules(*texts, then("recovered"), phase='lasts = "100s"'), clock=clock) as fake:
        sender = CarefulSender(fake, clock.advance)
        sender.attempt(b"Message-ID: <1@x>\r\n\r\nhi\r\n")
        for gap in gaps:
            clock.advance(gap)
            sender.attempt(b"Message-ID: <1@x>\r\n\r\nhi\r\n")
        fake.settle()
        return fake, picture(Run([fake.journal]))


def test_a_lane_for_each_connection_and_the_waits_between_them() -> None:
    _, seen = retried(30, 90)
    assert [(lane.who, lane.start) for lane in seen.lanes] == [("#1", 0), ("#2", 30), ("#3", 120)]
    assert [[(w.start, w.end, w.to) for w in lane.waits] for lane in seen.lanes] == [[(0, 30, 1)], [(30, 120, 2)], []]
    assert [[point.kind for point in lane.points] for lane in seen.lanes] == [["421"], ["421"], ["done"]]
    assert seen.lanes[2].points[0].text == "message <1@x> stored"
    assert (seen.span, seen.phases) == (120, ((100, "smtp", "recovered"),))


def test_a_strip_is_to_scale() -> None:
    _, seen = retried(30, 90)
    assert [strip(lane, seen.span, 13) for lane in seen.lanes] == [
        "x..          ",
        "   x........ ",
        "            +",
    ]


def test_a_refusal_that_is_no_421_and_an_open_connection() -> None:
    clock = ManualClock()
    with FakeSMTP(rules(one("noop", reply="450 no")), clock=clock) as fake, Raw(fake).hello() as raw:
        raw.say("NOOP")
        clock.advance(10)
        seen = picture(Run([fake.journal]))
        assert (seen.lanes[0].live, strip(seen.lanes[0], seen.span, 5)) == (True, "!----")


def test_what_is_marked_is_marked() -> None:
    fake, _ = retried(30)
    seen = picture(Run([fake.journal]), [fake.journal.exchanges[1]])
    assert [lane.marked for lane in seen.lanes] == [False, True]


def test_of_many_connections_the_middle_is_left_out() -> None:
    fake, _ = retried(*[1] * 9)
    seen = picture(Run([fake.journal]), most=4)
    assert ([lane.who for lane in seen.lanes], seen.left_out) == (["#1", "#2", "#9", "#10"], 6)
    assert [wait.to for lane in seen.lanes for wait in lane.waits] == [1, None, 3]


def test_nobody_came() -> None:
    with FakeSMTP() as fake:
        assert picture(Run([fake.journal])) == Picture((), 0.0, 0, (), 0)


def test_the_svg_is_to_scale_and_marks_each_421() -> None:
    _, seen = retried(30, 90)
    drawn = svg(seen)
    circles = [c for g in drawn.iter("g") for c in g.iter("circle")]
    assert [c.get("class") for c in circles] == ["bad", "bad", "good"]
    first, second, third = (float(c.get("cx", "")) for c in circles)
    assert abs((third - first) / (second - first) - 4) < 0.01
    ys = [float(c.get("cy", "")) for c in circles]
    assert ys == sorted(set(ys))
    paths = [re.findall(r"[\d.]+", p.get("d", "")) for p in drawn.iter("path") if p.get("class") == "wait"]
    assert [(float(p[0]), float(p[2])) for p in paths] == [(first, second), (second, third)]
    words = [text.text for text in drawn.iter("text")]
    assert words.count("421") == 3  # two of them, and the legend
    assert {"30s", "phase recovered"} < set(words)


def test_a_busy_lane_draws_no_more_than_can_be_seen() -> None:
    with FakeSMTP(rules(one("noop", reply="450 no")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
        raw.send("NOOP\r\n" * 500 + "RSET\r\n")
        while "250" not in raw.reply():
            pass
        fake.settle()
        seen = picture(Run([fake.journal]))
    assert len(seen.lanes[0].points) == 500
    assert len(seen.lanes[0].outcome) < 300
    assert len([p for p in svg(seen).iter("path") if p.get("class") == "warn"]) <= 2  # it, and the legend's


def test_no_line_runs_backwards() -> None:
    lines = [(float(one.get("x1", "")), float(one.get("x2", ""))) for one in svg(retried(30, 90)[1]).iter("line")]
    assert lines
    assert all(x1 <= x2 for x1, x2 in lines)
