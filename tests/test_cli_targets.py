"""From the words of a command line to servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from notnow.cli._targets import Target, resolve
from notnow.errors import ScenarioError


def names(*given: str, **options: Any) -> list[str]:
    return [target.name for target in resolve(given, **options)]


def one(*given: str, **options: Any) -> Target:
    (target,) = resolve(given, **options)
    return target


def test_unnamed_servers_are_numbered_by_protocol() -> None:
    assert names("smtp/overload") == ["smtp"]
    assert names("smtp/overload", "smtp/healthy", "smtp/weather") == ["smtp", "smtp2", "smtp3"]


def test_a_name_that_is_taken_is_not_given_again() -> None:
    assert names("smtp/healthy", "smtp=smtp/overload", "smtp/healthy") == ["smtp2", "smtp", "smtp3"]


def test_named_servers_keep_their_order() -> None:
    targets = resolve(["primary=smtp/overload", "backup=smtp/healthy"])
    assert [(t.name, t.scenario.name) for t in targets] == [("primary", "smtp/overload"), ("backup", "smtp/healthy")]


def test_a_path_is_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "a=b.toml"
    file.write_text('protocol = "smtp"')
    assert one(str(file)).scenario.file == str(file)
    assert one(f"mine={file}").name == "mine"


def test_directories_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('protocol = "smtp"')
    assert one("mine", search_paths=[str(tmp_path)]).scenario.name == "mine"


def test_without_options_everything_is_the_default() -> None:
    target = one("smtp/overload")
    assert (target.host, target.port, target.scenario.knobs["outage"]) == ("127.0.0.1", 0, "30s")


# ---- knobs -------------------------------------------------------------------------------------


def outages(*settings: str) -> list[str]:
    targets = resolve(["a=smtp/overload", "b=smtp/overload", "c=smtp/greylisting"], knobs=settings)
    return [str(target.scenario.knobs.get("outage")) for target in targets]


def test_a_knob_goes_to_all_that_know_it() -> None:
    assert outages("outage=2s") == ["2s", "2s", "None"]


def test_a_knob_goes_to_one() -> None:
    assert outages("b.outage=2s") == ["30s", "2s", "None"]


def test_the_last_word_counts() -> None:
    assert outages("outage=2s", "a.outage=3s", "outage=4s") == ["4s", "4s", "None"]


def test_the_value_may_hold_an_equals_sign_and_dots() -> None:
    target = one("smtp/too-many-errors", knobs=["unknown=a.b=c*"])
    assert target.scenario.knobs["unknown"] == "a.b=c*"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("otage=2s", "there is no knob 'otage'; allowed: like, outage, wait; did you mean 'outage'?"),
        ("c.outage=2s", "smtp/greylisting: there is no knob 'outage'; allowed: like, wait"),
        ("d.outage=2s", "there is no server 'd'; allowed: a, b, c"),
        ("outage=soon", "knob 'outage' is 'soon'; allowed: a number and a unit"),
        ("like=nobody", "there is no fault 'nobody'; allowed: postscreen"),
        ("port=25", "'port' is an option, not a knob; allowed: --port VALUE"),
    ],
)
def test_a_knob_that_does_not_hold(setting: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        outages(setting)
    assert said in str(caught.value)


@pytest.mark.parametrize("setting", ["outage", "=2s", "a.=2s", ""])
def test_a_setting_that_is_none(setting: str) -> None:
    with pytest.raises(click.UsageError, match="--set takes KNOB=VALUE"):
        outages(setting)


# ---- addresses ---------------------------------------------------------------------------------


def ports(*given: str) -> list[int]:
    return [target.port for target in resolve(["a=smtp/healthy", "b=smtp/healthy"], ports=given)]


def test_a_port_is_for_the_first_or_for_the_one_that_is_named() -> None:
    assert ports("2525") == [2525, 0]
    assert ports("b=2525") == [0, 2525]
    assert ports("2526", "b=2525") == [2526, 2525]
    assert ports("a=0", "2525") == [0, 0]


@pytest.mark.parametrize("given", ["65536", "-1", "smtp", "", "b=x", "²"])
def test_a_port_that_is_none(given: str) -> None:
    with pytest.raises(click.UsageError, match="allowed: 0 \\(any free one\\) to 65535"):
        ports(given)


def test_a_port_is_given_once() -> None:
    with pytest.raises(click.UsageError, match="--port is given twice for b"):
        ports("b=1", "b=2")


def test_a_port_for_nobody() -> None:
    with pytest.raises(ScenarioError, match="--port: there is no server 'c'; allowed: a, b"):
        ports("c=2525")


def test_a_host_is_for_all_or_for_the_one_that_is_named() -> None:
    targets = resolve(["a=smtp/healthy", "b=smtp/healthy"], hosts=["127.0.0.2", "b=::1"])
    assert [target.host for target in targets] == ["127.0.0.2", "::1"]


def test_two_servers_of_one_name() -> None:
    with pytest.raises(click.UsageError, match="two servers are called 'a'"):
        names("a=smtp/healthy", "a=smtp/overload")


def test_a_server_without_a_scenario() -> None:
    with pytest.raises(click.UsageError, match="'a=' is a server without a scenario: name one, as in a=smtp/overload"):
        names("a=")


def test_an_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'smtp/overload'"):
        names("smtp/overlaod")


# ---- the user's own servers behind them ----------------------------------------------------------


def options(*given: str, **own: list[str]) -> dict[str, dict[str, Any]]:
    return {target.name: dict(target.options) for target in resolve(given, own=own)}


def test_a_directory_is_for_all_ftp_servers_or_for_the_one_that_is_named() -> None:
    found = options("ftp/healthy", "b=ftp/healthy", "smtp/healthy", files=["site", "b=other/a=b"])
    assert found == {"ftp": {"files": Path("site")}, "b": {"files": Path("other/a=b")}, "smtp": {}}


def test_a_server_of_your_own_goes_where_it_fits() -> None:
    own = {"upstream": ["http://127.0.0.1:8000"], "forward": ["smtp://127.0.0.1:1025"]}
    found = options("http/healthy", "smtp/healthy", "ftp/healthy", **own)
    assert found == {"http": {"upstream": own["upstream"][0]}, "smtp": {"forward": own["forward"][0]}, "ftp": {}}


def test_a_server_of_your_own_that_fits_nowhere() -> None:
    with pytest.raises(ScenarioError, match="--files is for none of these servers; allowed: servers of ftp"):
        options("smtp/healthy", "http/healthy", files=["site"])
    with pytest.raises(ScenarioError, match="--upstream: there is no server 'c'; allowed: http"):
        options("http/healthy", upstream=["c=http://127.0.0.1:8000"])
    with pytest.raises(click.UsageError, match="--forward is given twice"):
        options("smtp/healthy", forward=["smtp://127.0.0.1:1025"] * 2)


def test_an_app_is_imported() -> None:
    assert options("http/healthy", app=["json:dumps"])["http"]["app"].__module__ == "json"
