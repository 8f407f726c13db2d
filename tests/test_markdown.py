"""A report as Markdown, for the summary page of a CI job."""

from __future__ import annotations

import pytest

import reports
from conduct_playbook import Play
from notnow.conduct.finding import Finding, broken
from notnow.conduct.pictures.markdown import page

PAGE = """\
### ❌ smtp/x: not well behaved

**reported: 1 of 2 items, and the client exited with 75**

- mail from c@x

Client: `'send mail' -n 2`, which exited with 75 after 1.25s.
Load: 4 tries (2 an item), at most 2 in a second, 2 at a server known to be busy.

| | rule | level | why |
|---|---|---|---|
| ❌ | `smtp.broken` | should | it came \\| at once<br>smtp \\#1 at 0s: connect -&gt; 220 hello<br>RFC 5321 §4.5.4.1; \\`notnow conduct smtp.broken\\` explains it |
| ⚠️ | `smtp.lax` | advice | it did<br>smtp \\#1 at 0s: connect -&gt; 220 hello<br>RFC 5321 §4.5.4.1; \\`notnow conduct smtp.lax\\` explains it |
| ❔ | `smtp.open` | should | nobody can tell<br>smtp \\#1 at 0s: connect -&gt; 220 hello<br>another run would settle it |
| ✅ | `smtp.held` | should | it waited 1m |

<details><summary>Timeline</summary>

````text
timeline (scenario time)
          0s  #1    x 1 message stored; mail: 421 busy; the fake closed
          1m  #2    x mail: 421 busy; the fake closed
          3m  #3    x mail: 421 busy; the fake closed
````

</details>

"""


def test_a_page() -> None:
    play = reports.lost()
    assert page(reports.of(play, *reports.every_outcome(play))) == PAGE


def test_a_run_that_is_not_judged_as_a_whole_has_no_result_and_one_without_verdicts_no_table() -> None:
    play = Play("smtp")
    play.connect("QUIT")
    text = page(reports.of(play, reports.said("smtp.idle", Finding("not exercised")), judged=False))
    assert text.startswith("### ❌ smtp/x: nothing judged\n\nClient: ")
    assert "| rule |" not in text


def test_a_good_run_says_so() -> None:
    play = Play("smtp")
    play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>", "QUIT")
    text = page(reports.of(play, client=reports.Client(("x",), 0)))
    assert text.startswith("### ✅ smtp/x: well behaved\n\n**delivered: 1 item**\n\n\nClient: `x`, which exited")


@pytest.mark.parametrize(("n", "more"), [(10, ""), (11, "- … and 1 more"), (13, "- … and 3 more")])
def test_of_many_items_the_first_are_named(n: int, more: str) -> None:
    play = Play("smtp")
    for i in range(n):
        play.connect(f"MAIL FROM:<{i}@x> -> !451 no", "QUIT").play.wait("1m")
    lines = [line for line in page(reports.of(play)).splitlines() if line.startswith("- ")]
    assert lines[10:] == [more] * bool(more)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a <b> & *c*", "a &lt;b&gt; &amp; \\*c\\*"),
        ("`_[]|#~!\\", "\\`\\_\\[\\]\\|\\#\\~\\!\\\\"),
        ("\x1b[31m", "\\\\x1b\\[31m"),
    ],
)
def test_a_client_writes_no_markup(said: str, shown: str) -> None:
    play = Play("smtp")
    play.connect("QUIT")
    verdict = reports.said("smtp.x", broken(said, play.journals[0].exchanges[0]))
    assert f"| should | {shown}<br>" in page(reports.of(play, verdict))


def test_nor_does_its_command() -> None:
    play = Play("smtp")
    play.connect("QUIT")
    text = page(reports.of(play, client=reports.Client(("`x`\n",), 0)))
    assert "\nClient: `''x' '`, which exited with 0" in text
