"""The report on a run: its outcome, its figures as plain data, and its cases for JUnit. No client runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import reports
from conduct_playbook import BUSY, Play, tries
from notnow.conduct.baseline import Known
from notnow.conduct.finding import Finding, broken, held, inconclusive
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures.report import Client, Report, as_dict, write_junit
from notnow.conduct.reading.ledger import Doubt
from notnow.conduct.reading.result import Result
from notnow.conduct.reading.run import Run
from notnow.language import catalogue

LOST, UNKNOWN, NOTHING = (
    Result("lost", missing=1),
    Result("unknown", doubts=(Doubt("x", "y"),)),
    Result("nothing asked"),
)
DELIVERED, REPORTED = Result("delivered", asked=1), Result("reported", missing=1)


def seen(*lines: str) -> Play:
    play = Play("smtp")
    play.connect(*lines or ("QUIT",))
    return play


PLAY = seen()
PROOF = PLAY.journals[0].exchanges[0]
HELD, IDLE = reports.said("smtp.held", held()), reports.said("smtp.idle", Finding("not exercised"))
BROKEN, LAX = reports.said("smtp.broken", broken("x", PROOF)), reports.said("smtp.lax", broken("x", PROOF), "advice")
OPEN, OF_A_RULE = inconclusive("x", "y"), reports.said("smtp.open", inconclusive("x", "y"))


@pytest.mark.parametrize(
    ("client", "said", "outcome", "code"),
    [
        (Client(("x",), failure="cannot be run"), "cannot be run", "could not be run", 3),
        (Client(("x",), interrupted=True, duration=2), "was stopped after 2s", "interrupted", 130),
        (Client(("x",), hung=True, duration=2), "was still running after 2s (--timeout), and was killed", "hung", 3),
        (Client(("x",), signal="SIGSEGV", duration=2), "died by SIGSEGV after 2s", "died", 3),
        (Client(("x",), 75, duration=2), "exited with 75 after 2s", "well behaved", 0),
    ],
)
def test_how_a_client_ended(client: Client, said: str, outcome: str, code: int) -> None:
    report = reports.of(PLAY, HELD, client=client, result=DELIVERED)
    assert (str(client), report.outcome, report.exit) == (said, outcome, code)
    assert (client.ended.code, client.ended.hung) == (client.exit, outcome == "hung")


@pytest.mark.parametrize(
    ("verdicts", "fields", "outcome"),
    [
        ([HELD], {"result": DELIVERED}, "well behaved"),
        ([HELD, BROKEN], {"result": DELIVERED}, "not well behaved"),
        ([HELD, BROKEN], {"result": DELIVERED, "baseline": Known(broken=frozenset({"smtp.broken"}))}, "well behaved"),
        ([BROKEN], {"result": None}, "not well behaved"),
        ([HELD, LAX], {"result": DELIVERED}, "well behaved"),
        ([LAX], {"result": None}, "well behaved"),
        ([HELD, LAX], {"result": DELIVERED, "levels": ("must", "should", "advice")}, "not well behaved"),
        ([HELD], {"result": LOST}, "not well behaved"),
        ([HELD], {"result": LOST, "accepted": ["lost"]}, "well behaved"),
        ([HELD], {"result": LOST, "baseline": Known("lost")}, "well behaved"),
        ([HELD], {"result": REPORTED}, "well behaved"),
        ([HELD], {"result": UNKNOWN}, "inconclusive"),
        ([HELD], {"result": UNKNOWN, "accepted": ["unknown"]}, "well behaved"),
        ([HELD, OF_A_RULE], {"result": DELIVERED}, "well behaved"),
        ([HELD, reports.said("expect.delivered", OPEN)], {"result": DELIVERED}, "inconclusive"),
        ([HELD, reports.said("expect.delivered", OPEN, "advice")], {"result": DELIVERED}, "well behaved"),
        ([IDLE], {"result": DELIVERED}, "well behaved"),
        ([IDLE], {"result": NOTHING}, "nothing judged"),
        ([HELD], {"result": NOTHING}, "well behaved"),
        ([IDLE], {"result": None}, "nothing judged"),
        ([HELD], {"result": None}, "well behaved"),
    ],
)
def test_the_outcome_of_a_run(verdicts: list[Verdict], fields: dict[str, Any], outcome: str) -> None:
    assert reports.of(PLAY, *verdicts, **fields).outcome == outcome


def test_nobody_connected() -> None:
    assert reports.of(Play("smtp"), HELD).outcome == "never connected"


@pytest.mark.parametrize(
    ("verdicts", "result", "outcome"),
    [
        ([IDLE], None, "nothing tested"),
        ([HELD], None, "well behaved"),
        ([HELD], DELIVERED, "nothing tested"),
        ([BROKEN], DELIVERED, "not well behaved"),
    ],
)
def test_a_run_in_which_no_fault_fired(verdicts: list[Verdict], result: Result | None, outcome: str) -> None:
    run = Run(PLAY.journals, [catalogue.scenario("smtp/overload")])
    report = Report(reports.DIED, run, verdicts, [], 1.0, ("must", "should"), result)
    assert report.outcome == outcome


# ---- plain data ----------------------------------------------------------------------------------


def test_as_plain_data_within_bounds() -> None:
    play = Play("smtp")
    for name in "abcaaa":
        play.connect(f"MAIL FROM:<{name}@x> -> !451 no", "QUIT").play.wait("1m")
    evidence = play.journals[0].exchanges
    found = as_dict(reports.of(play, reports.said("smtp.x", broken("so", *evidence))), journals=False, most=2)
    assert "journals" not in found
    assert [len(found[key]) for key in ("items", "doubts")] == [5, 0]
    assert found["items"]["lost"] == ["mail from a@x", "mail from b@x"]
    assert [len(found["backoff"]["smtp"]["gaps"])] == [2]
    (verdict,) = found["verdicts"]
    assert (len(verdict["evidence"]), verdict["evidence_left_out"]) == (2, len(evidence) - 2)


def test_as_plain_data() -> None:
    play = reports.lost()
    found = as_dict(reports.of(play, HELD, speed=2.0))
    assert list(found.pop("journals")) == ["smtp"]
    assert found.pop("notnow")
    assert found.pop("storm")["tries"] == 4
    assert [one["rule"] for one in found.pop("verdicts")] == ["smtp.held"]
    assert found.pop("backoff")["smtp"]["gaps"] == [60, 120]
    assert found == {
        "outcome": "well behaved",
        "exit": 0,
        "result": "reported",
        "result_in_words": "reported: 1 of 2 items, and the client exited with 75",
        "items": {"asked": 2, "missing": 1, "lost": ["mail from c@x"], "duplicated": [], "refused": []},
        "doubts": [],
        "seed": 7,
        "speed": 2.0,
        "servers": [
            {
                "name": "smtp",
                "scenario": "smtp/x",
                "protocol": "smtp",
                "url": "smtp://h:1",
                "host": "h",
                "port": 1,
                "seed": 7,
            }
        ],
        "client": {
            "command": ["send mail", "-n", "2"],
            "exit": 75,
            "signal": None,
            "duration": 1.25,
            "ended": "exited with 75 after 1.25s",
        },
        "herds": {},
    }


def test_items_and_doubts_by_name() -> None:
    play = Play("smtp")
    for end in ("", "", " -> !550 no"):
        play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", f". <{1 + bool(end)}@x>{end}").play.wait("1m")
    found = as_dict(reports.of(play))
    assert found["items"] == {
        "asked": 2, "missing": 0, "lost": [], "duplicated": ["<1@x> to b@y"], "refused": ["<2@x> to b@y"],
    }  # fmt: skip
    doubts = as_dict(reports.of(PLAY, result=UNKNOWN))["doubts"]
    assert doubts == [{"why": "x", "settled_by": "y"}]
    assert "result" not in as_dict(reports.of(PLAY, judged=False))


def test_the_back_off_with_its_parameters() -> None:
    play = Play("smtp")
    tries(play, *[60 * 2**n * (1 + j / 1000) for n, j in enumerate((40, -30, 70, 10, -60, 90))])
    found = as_dict(reports.of(play))["backoff"]["smtp"]
    assert (found["shape"], found["family"], found["gaps"][0]) == ("exponential", "exponential", 62.4)
    assert found["factor"] == pytest.approx(2, abs=0.01)
    assert found["jitter"]["size"] == round(found["jitter"]["size"], 4) > 0
    assert found["words"].startswith("exponential, ")


def test_a_server_that_nobody_came_back_to_has_no_back_off() -> None:
    play = Play("smtp", "a", "b")
    for _ in range(2):
        play.connect(BUSY).play.wait("1m")
    play.connect(BUSY, server=1)
    report = reports.of(play)
    assert [title for title, _ in report.back_off()] == ["back-off at a"]
    assert report.scenarios == "a/x, b/x"


@pytest.mark.parametrize(("waits", "bars"), [(20, 20), (21, 0)])
def test_the_bars_of_a_back_off(waits: int, bars: int) -> None:
    play = Play("smtp")
    tries(play, *[60] * waits)
    ((title, (words, *lines)),) = reports.of(play).back_off()
    assert (title, words.partition(",")[0], len(lines)) == ("back-off", "constant", bars)


def test_workers_that_came_back_together() -> None:
    play = Play("smtp")
    for _ in range(2):
        for n in range(6):
            play.connect(BUSY, client=f"192.0.2.{n}")
        play.wait("1m")
    report = reports.of(play)
    (words,) = as_dict(report)["herds"].values()
    assert [lines[-1] for _, lines in report.back_off()] == [words]


def test_the_run_begins_with_the_first_connection() -> None:
    play = Play("smtp", "a", "b").wait("5s")
    assert reports.of(play).zero == 0.0
    play.connect(server=1).play.wait("1m")
    play.connect(server=0)
    assert reports.of(play).zero == play.journals[1].connections[0].opened_at


# ---- JUnit ---------------------------------------------------------------------------------------


def cases(report: Report, folder: Path) -> dict[str, list[tuple[str, str | None, str | None]]]:
    """The test cases by name, each with its results: kind, message, type."""
    write_junit(report, str(folder / "r.xml"))
    suite = ET.parse(folder / "r.xml").getroot().find("testsuite")
    assert suite is not None
    return {
        f"{c.get('classname')} {c.get('name')}": [
            (r.tag, r.get("message"), r.get("type")) for r in c if r.tag != "system-out"
        ]
        for c in suite.iter("testcase")
    }


def test_a_case_for_each_rule(tmp_path: Path) -> None:
    known = reports.said("smtp.known", broken("y", PROOF))
    baseline = Known(broken=frozenset({"smtp.known"}))
    report = reports.of(PLAY, HELD, BROKEN, LAX, known, OF_A_RULE, IDLE, baseline=baseline, result=LOST)
    assert cases(report, tmp_path) == {
        "notnow.try result": [("failure", LOST.sentence, "not well behaved")],
        "notnow.smtp smtp.held": [],
        "notnow.smtp smtp.broken": [("failure", "x", "should")],
        "notnow.smtp smtp.lax": [("skipped", "broken, but only advice: x", None)],
        "notnow.smtp smtp.known": [("skipped", "broken, but known: y", None)],
        "notnow.smtp smtp.open": [("skipped", "inconclusive: x; y would settle it", None)],
        "notnow.smtp smtp.idle": [("skipped", "not exercised by this run", None)],
    }
    suite = ET.parse(tmp_path / "r.xml").getroot().find("testsuite")
    assert suite is not None
    assert {p.get("name"): p.get("value") for p in suite.iter("property")} == {"seed": "7", "command": "send mail -n 2"}
    assert [f.text and f.text.splitlines()[0] for f in suite.iter("failure")][1] == (
        "broken: smtp.broken (should): It keeps smtp.broken."
    )
    assert float(suite.findall("testcase")[0].get("time", "")) == 1.25


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"result": DELIVERED}, []),
        ({"result": UNKNOWN}, [("skipped", "inconclusive: unknown: x; y would settle it", None)]),
        ({"client": Client((), hung=True)}, [("error", f"the client {Client((), hung=True)}: hung", "hung")]),
        ({"client": Client((), interrupted=True)}, [("error", "the client was stopped: interrupted", "interrupted")]),
    ],
)  # fmt: skip
def test_the_case_of_the_run(fields: dict[str, Any], result: list[Any], tmp_path: Path) -> None:
    assert cases(reports.of(PLAY, HELD, **fields), tmp_path)["notnow.try result"] == result
