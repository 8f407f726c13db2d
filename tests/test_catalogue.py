"""The catalogue: every scenario in it holds, with each of its choices, and can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from notnow.errors import ScenarioError
from notnow.language import catalogue
from notnow.language.expect import Expect
from notnow.language.knobs import LIVE

TEXT = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nreply = "421 mine"\n'


@pytest.mark.parametrize("name", catalogue.names())
class TestEveryScenario:
    def test_says_what_it_is_and_where_it_comes_from(self, name: str) -> None:
        made = catalogue.scenario(name)
        assert made.protocol == name.partition("/")[0]
        assert made.summary.endswith(".")
        assert len(made.summary) <= 120
        assert made.sources or name.endswith("/healthy")
        assert made.expect != Expect()

    def test_loads_with_every_choice_of_words(self, name: str) -> None:
        made = catalogue.scenario(name)
        for knob, value in made.knobs.items():
            if value in made.faults:
                for choice in made.faults:
                    catalogue.scenario(name, **{knob: choice})

    def test_explains_every_knob(self, name: str) -> None:
        text = catalogue.locate(name).read_text("utf-8")
        for knob in catalogue.scenario(name).knobs:
            assert re.search(rf"^#.*\n{knob}\s*=|^{knob}\s*=.*#\s*\S", text, re.MULTILINE), knob

    def test_is_listed_as_it_loads(self, name: str) -> None:
        made = catalogue.scenario(name)
        entry = catalogue.entry(name, catalogue.locate(name))
        assert entry == (made.name, made.protocol, made.summary, made.knobs)

    def test_starts_with_its_path(self, name: str) -> None:
        assert catalogue.locate(name).read_text("utf-8").startswith(f"# scenarios/{name}.toml\n")


def test_the_issue_names_these() -> None:
    smtp = (
        "healthy overload flapping-overload too-many-connections too-many-per-client connection-rate at-stage "
        "kept-then-421 bare-close idle-timeout shutdown too-many-errors messages-per-connection greylisting "
        "gmail-unusual-rate gmail-daily-limit workspace-daily-limit microsoft-daily-limit microsoft-concurrency "
        "yahoo-tss04 outlook-rp-001 ip-blocked dns-blocklist no-dkim maintenance tls-required starttls-refused "
        "wrong-certificate expired-certificate untrusted-certificate plain-on-tls-port"
    )
    ftp = (
        "healthy overload flapping-overload busy-greeting too-many-users too-many-per-client too-many-per-user "
        "proftpd-max-clients proftpd-max-connections proftpd-max-instances proftpd-connection-rate idle-sessions "
        "idle-timeout no-transfer-timeout login-timeout data-timeout passive-timeout kicked killed-mid-download "
        "killed-mid-upload shutdown max-login-attempts active-blocked passive-blocked wrong-passive-reply "
        "open-after-421 at-stage bare-close tls-handshake-refused auth-tls-refused wrong-certificate expired-certificate "
        "untrusted-certificate tls-required kept-then-421 storage-full weather"
    )
    http = (
        "healthy sni-mismatch no-sni coalesced certificate-mismatch misdirected-forever misdirected-times misdirected-post "
        "domain-fronting stale-certificate expired-certificate untrusted-certificate incomplete-chain unrecognized-name "
        "alt-svc overload rate-limited connection-cap stream-cap goaway-graceful goaway-mid-request stream-reset "
        "connection-reset stalled slow-drip truncated early-421 weather"
    )
    wanted = {"smtp": smtp, "ftp": ftp, "http": http}
    assert {f"{protocol}/{name}" for protocol in wanted for name in wanted[protocol].split()} <= set(catalogue.names())


def test_no_placeholder_is_left_where_nobody_fills_it() -> None:
    for name in catalogue.names():
        for rule in catalogue.scenario(name).rules():
            for line in (*(rule.reply or ()), rule.body or "", *(value for _, value in rule.headers or ())):
                assert set(re.findall(r"(?<!\{)\{([^{}]+)\}", line)) <= LIVE, (name, line)


@pytest.mark.parametrize("text", ['summary = "No protocol."\n', "protocol = \n"])
def test_a_mistake_in_a_built_in_file_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "builtin", lambda: tmp_path)
    (tmp_path / "new.toml").write_text(text)
    with pytest.raises(ScenarioError, match="new.toml"):
        catalogue.entry("new", tmp_path / "new.toml")


def test_names_match_a_pattern() -> None:
    assert catalogue.names("smtp/over*") == ["smtp/overload"]
    assert catalogue.names("nothing*") == []


def test_a_file_is_found_beside_the_asker_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    for directory in (beside, here):
        directory.mkdir()
        (directory / "own.toml").write_text(TEXT)
    (here / "only.toml").write_text(TEXT)
    monkeypatch.chdir(here)
    assert catalogue.locate("own.toml", relative_to=[beside]) == beside / "own.toml"
    assert catalogue.locate("only.toml", relative_to=[beside]) == here / "only.toml"


def test_a_name_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "out.toml").write_text(TEXT)
    (tmp_path / "in").mkdir()
    with pytest.raises(ScenarioError, match="out"):
        catalogue.locate("../out", search_paths=[tmp_path / "in"])


def test_a_directory_of_ones_own_goes_before_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "smtp").mkdir()
    (tmp_path / "smtp" / "overload.toml").write_text(TEXT)
    (tmp_path / "smtp" / "special.toml").write_text(TEXT)
    assert catalogue.scenario("smtp/overload", search_paths=[tmp_path]).phases[0].rules[0].reply == ("421 mine",)
    assert "smtp/special" in catalogue.names(search_paths=[tmp_path])


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    file = tmp_path / "own.toml"
    file.write_text(TEXT)
    assert catalogue.scenario(str(file)).phases[0].rules[0].reply == ("421 mine",)
    file.write_text(TEXT.replace("mine", "yours"))
    os.utime(file, ns=(1, 1))
    assert catalogue.scenario(str(file)).phases[0].rules[0].reply == ("421 yours",)


def test_one_and_true_are_two_knobs() -> None:
    catalogue.scenario("smtp/too-many-connections", cap=1)
    with pytest.raises(ScenarioError, match="knob 'cap' is True; allowed: a whole number"):
        catalogue.scenario("smtp/too-many-connections", cap=True)


def test_a_knob_that_cannot_be_hashed(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'protocol = "smtp"\n[params]\ntext = ["450 x"]\n[[phase]]\n[[phase.rule]]\non = "mail"\nreply = "{text}"\n'
    )
    made = catalogue.scenario(str(file), text=["450-a", "450 b"])
    assert made.phases[0].rules[0].reply == ("450-a", "450 b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "smtp/overlaod",
            "there is no scenario 'smtp/overlaod'; allowed: see `notnow list`.*; did you mean 'smtp/overload'?",
        ),
        ("overload", "did you mean 'smtp/overload'?"),
        ("nowhere.toml", "there is no scenario file 'nowhere.toml'; allowed: a file in "),
    ],
)
def test_a_name_that_is_not_there_says_what_is(name: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        catalogue.scenario(name)


def test_a_directory_in_which_a_file_was_looked_for_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        catalogue.locate("nowhere.toml", relative_to=[tmp_path, tmp_path])
    assert str(caught.value).endswith(f"allowed: a file in {tmp_path} or {Path.cwd()}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.toml", "'a.toml' is a directory; allowed: a file of a scenario, a.toml/NAME.toml"),
        (
            "mine",
            "'mine' is a directory, and no scenario; allowed: see `notnow list`; a file of your own ends in .toml",
        ),
    ],
)
def test_a_directory_is_no_scenario(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ScenarioError) as caught:
        catalogue.scenario(name)
    assert str(caught.value).startswith(message)


def test_a_long_name_is_not_repeated() -> None:
    with pytest.raises(ScenarioError) as caught:
        catalogue.scenario("x" * 5_000)
    assert len(str(caught.value)) < 300


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(ScenarioError, match="there is no directory 'nowhere'"):
        catalogue.names(search_paths=["nowhere"])


@pytest.mark.parametrize(
    ("name", "is_so"),
    [("smtp/*", True), ("smtp/over?oad", True), ("[sf]mtp/overload", True), ("smtp/overload", False), ("", False)],
)
def test_a_glob_is_told_from_a_name(name: str, is_so: bool) -> None:
    assert catalogue.is_pattern(name) is is_so
