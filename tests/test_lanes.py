"""The picture of a run: lanes to scale, with characters and as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from notnow import FakeSMTP, ManualClock
from notnow.conduct.pictures.chart import Chart
from notnow.conduct.pictures.lanes import Picture, picture, strip
from notnow.conduct.reading.run import Run
from notnow.look.rendering import render
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


def drawn(seen: Picture, anchors: set[int] = set()) -> ET.Element:  # noqa: B006
    """The timeline of the report and the page, parsed; its SVG has no namespace here."""
    html = render("timeline.html", chart=Chart(seen), anchors=anchors)
    return ET.fromstring(html.replace('xmlns="http://www.w3.org/2000/svg"', ""))


def places(elements: list[ET.Element], name: str) -> list[float]:
    """An attribute in percent of the width."""
    return [float(one.get(name, "").removesuffix("%")) for one in elements]


def test_the_svg_is_to_scale_and_marks_each_421() -> None:
    _, seen = retried(30, 90)
    svg = drawn(seen)
    marks = svg.findall(".//g/svg[a]")
    assert [mark.find("a").get("class") for mark in marks] == ["mark busy", "mark busy", "mark done"]  # type: ignore[union-attr]
    assert places(marks, "x") == [0, 25, 100]
    ys = [float(mark.get("y", "")) for mark in marks]
    assert ys == sorted(set(ys))
    lines = svg.findall(".//g[@class='wait']/line")
    assert list(zip(places(lines, "x1"), places(lines, "x2"), strict=True)) == [
        (0, 25),
        (25, 25),
        (25, 100),
        (100, 100),
    ]
    assert [(float(line.get("y1", "")), float(line.get("y2", ""))) for line in lines[1::2]] == [
        tuple(ys[:2]),
        tuple(ys[1:]),
    ]
    words = [text.text for text in svg.iter("text")]
    assert words.count("421") == 2
    assert {"30s", "phase recovered"} < set(words)


def test_each_mark_has_focus_and_says_what_it_is() -> None:
    fake, seen = retried(30)
    first = fake.journal.exchanges[0].index
    marks = [mark for mark in drawn(seen, {first}).iter("a") if mark.get("class")]
    assert [mark.get("aria-label") for mark in marks] == [
        "#1, 0s: connect: 421 4.3.2 not now",
        "#2, 30s: connect: 421 4.3.2 not now",
    ]
    assert [(mark.get("href"), mark.get("tabindex")) for mark in marks] == [(f"#e{first}", None), (None, "0")]


def test_a_busy_lane_draws_no_more_than_can_be_seen() -> None:
    with FakeSMTP(rules(one("noop", reply="450 no")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
        raw.send("NOOP\r\n" * 500 + "RSET\r\n")
        while "250" not in raw.reply():
            pass
        fake.settle()
        seen = picture(Run([fake.journal]))
    assert len(seen.lanes[0].points) == 500
    assert len(seen.lanes[0].outcome) < 300
    assert len([a for a in drawn(seen).iter("a") if a.get("class") == "mark refused"]) == 1


def test_no_line_runs_backwards() -> None:
    lines = list(drawn(retried(30, 90)[1]).iter("line"))
    assert lines
    assert all(x1 <= x2 for x1, x2 in zip(places(lines, "x1"), places(lines, "x2"), strict=True))
