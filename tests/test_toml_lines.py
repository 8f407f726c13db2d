"""The line of every key of a TOML document."""

from __future__ import annotations

from notnow.language.toml_lines import key_lines, line_of, show

TEXT = '''\
summary = "one"   # line 1
[params]
cap = 3
"odd.name" = 1
[fault.x]
reply = [
  "421-[phase]",
  "421 end = of it",
]
[[phase]]
name = "first"
until = { connect = 3 }
[[phase.rule]]
on = "connect"
where = { sender = "*", size = [1, 2] }
[[phase.rule]]   # the second
on = "mail"
text = """
on = "no key"
[phase.no]
"""
fault.delay = "3s"
[[phase]]
[[phase.rule]]
on = "data"
'''


def test_every_key_has_its_line() -> None:
    lines = key_lines(TEXT)
    assert lines == {
        ("summary",): 1,
        ("params",): 2,
        ("params", "cap"): 3,
        ("params", "odd.name"): 4,
        ("fault", "x"): 5,
        ("fault", "x", "reply"): 6,
        ("phase", 0): 10,
        ("phase", 0, "name"): 11,
        ("phase", 0, "until"): 12,
        ("phase", 0, "rule", 0): 13,
        ("phase", 0, "rule", 0, "on"): 14,
        ("phase", 0, "rule", 0, "where"): 15,
        ("phase", 0, "rule", 1): 16,
        ("phase", 0, "rule", 1, "on"): 17,
        ("phase", 0, "rule", 1, "text"): 18,
        ("phase", 0, "rule", 1, "fault", "delay"): 22,
        ("phase", 1): 23,
        ("phase", 1, "rule", 0): 24,
        ("phase", 1, "rule", 0, "on"): 25,
    }


def test_quotes_and_odd_line_ends_hide_no_line() -> None:
    text = (
        'a = """say "" and \\""" so"""\r\n'
        "# a comment with a \u2028 line end of another world\n"
        "b = '''[ \\'''\n"
        'c = """\n"quoted" " """\n'
        "d = [ \"]\", # ]\n']', ]\n"
        "'e' . \"f\" = { x = [1, 2], y = '}' }\n"
        "[ g . 'h i' ] # [no]\n"
        "j = 1\n"
    )
    assert key_lines(text) == {
        ("a",): 1, ("b",): 3, ("c",): 4, ("d",): 6, ("e", "f"): 8, ("g", "h i"): 9, ("g", "h i", "j"): 10,
    }  # fmt: skip


def test_a_path_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("phase", 0, "rule", 0, "where", "size", 1)) == 15
    assert line_of(lines, ("phase", 0, "rule", 1, "nothing")) == 16
    assert line_of(lines, ("nothing",)) is None


def test_paths_are_shown_as_people_write_them() -> None:
    assert show(("phase", 0, "rule", 12, "on")) == "phase[0].rule[12].on"
    assert show(()) == ""
