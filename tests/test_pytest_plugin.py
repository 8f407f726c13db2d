"""The pytest plugin, from the outside: each test runs a pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from _pytest import hookspec

from notnow import environment

SENDER = """
import ftplib, io, smtplib, time
import pytest

def upload(fake, tries=1, wait=60, content=b"hello"):
    for n in range(tries):
        try:
            with ftplib.FTP() as client:
                client.connect(fake.host, fake.port, timeout=5)
                client.login()
                client.storbinary("STOR x", io.BytesIO(content))
            return
        except ftplib.all_errors:
            if n < tries - 1:
                time.sleep(wait * 2**n)

def send(fake, tries=1, wait=60, double=True):
    for n in range(tries):
        try:
            with smtplib.SMTP(fake.host, fake.port, timeout=5) as client:
                client.sendmail("a@x.test", ["b@y.test"], "Message-ID: <1@x.test>\\r\\n\\r\\nhello\\r\\n")
            return
        except (smtplib.SMTPException, OSError):
            if n < tries - 1:
                time.sleep(wait * (2**n if double else 1))
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    def runner(test: str, *args: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(SENDER + test)
        pytester.makeini(f"[pytest]\n{ini}")
        return pytester.runpytest_subprocess("-p", "no:pytester", *args)

    return runner


def test_a_fake_is_healthy_without_a_marker(run) -> None:
    run(
        """
def test_it(fake_smtp):
    send(fake_smtp)
    fake_smtp.assert_delivered(times=1)
    assert fake_smtp.scenario.name == "smtp/healthy"
"""
    ).assert_outcomes(passed=1)


def test_the_example_of_the_contract_passes_with_a_good_client(run) -> None:
    run(
        """
@pytest.mark.notnow("smtp/overload", outage="10m")
def test_it(fake_smtp, fast_forward):
    send(fake_smtp, tries=6)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_retried(backoff="exponential", first_delay=60)
"""
    ).assert_outcomes(passed=1)


def test_a_client_that_does_not_retry_fails_readably(run) -> None:
    result = run(
        """
@pytest.mark.notnow("smtp/overload", outage="10m")
def test_it(fast_forward, fake_smtp):
    send(fake_smtp)
    fake_smtp.assert_delivered(times=1)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: expected every message to be delivered once, but none was delivered: the client was told "
            "'421 4.3.2 All server ports are busy' at connect and did not come back",
            "E*->*#1*x connect: 421 4.3.2 All server ports are busy; the fake closed",
            "*- notnow -*",
            "smtp/overload, seed *",
            "timeline (scenario time)",
            "transcript",
            "*421 4.3.2 All server ports are busy*",
        ]
    )


def test_the_nearest_marker_wins_and_knobs_reach_the_scenario(run) -> None:
    run(
        """
pytestmark = pytest.mark.notnow("smtp/overload")

@pytest.mark.notnow("smtp/too-many-connections", cap=3)
def test_near(fake_smtp):
    assert fake_smtp.scenario.knobs["cap"] == 3

def test_far(fake_smtp):
    assert fake_smtp.scenario.name == "smtp/overload"
"""
    ).assert_outcomes(passed=2)


def test_server_options_go_to_the_server(run) -> None:
    run(
        """
@pytest.mark.notnow("smtp/healthy", tls="implicit", seed=7)
def test_it(fake_smtp):
    assert (fake_smtp.tls, fake_smtp.seed) == ("implicit", 7)
"""
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize("fixture", ["fake_smtp", "fake_server"])
def test_a_pattern_runs_the_test_for_every_scenario_that_matches(run, fixture: str) -> None:
    result = run(
        f"""
@pytest.mark.notnow("smtp/*-certificate", outage="5s")
def test_it({fixture}):
    assert {fixture}.scenario.knobs["outage"] == "5s"
""",
        "-v",
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_it?smtp/expired-certificate?*"])


def test_knobs_of_a_pattern_go_to_those_that_know_them(run) -> None:
    run(
        """
@pytest.mark.notnow("smtp/[oh]*", outage="5s")
def test_it(fake_smtp):
    assert fake_smtp.scenario.knobs.get("outage", "5s") == "5s"
"""
    ).assert_outcomes(passed=4)


def test_scenarios_of_ones_own_by_path_and_by_directory(run, pytester: pytest.Pytester) -> None:
    pytester.mkdir("mine")
    text = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nreply = "421 mine"\n'
    (pytester.path / "own.toml").write_text(text)
    (pytester.path / "mine" / "smtp").mkdir()
    (pytester.path / "mine" / "smtp" / "special.toml").write_text(text)
    run(
        """
@pytest.mark.notnow("own.toml")
def test_path(fake_smtp):
    with pytest.raises(smtplib.SMTPConnectError, match="mine"):
        smtplib.SMTP(fake_smtp.host, fake_smtp.port)

@pytest.mark.notnow("smtp/special")
def test_directory(fake_smtp):
    fake_smtp.play("own.toml")
    fake_smtp.play("smtp/special")

@pytest.mark.notnow("smtp/special")
def test_fixture_by_marker(fake_server):
    assert fake_server.protocol == "smtp"
""",
        ini="notnow_scenarios = mine",
    ).assert_outcomes(passed=3)


FTP_OUTAGE = """protocol = "ftp"
[params]
outage = "1h"
[server]
files = { "there.txt" = "x" }
[[phase]]
name = "down"
lasts = "{outage}"
[[phase.rule]]
on = "connect"
reply = "421 not now"
[[phase]]
name = "up"
"""


class TestHTTP:
    def test_a_fake_is_healthy_without_a_marker(self, run) -> None:
        run(
            """
import httpx

def test_it(fake_http):
    with fake_http.resolving():
        answer = httpx.get(fake_http.url_for("localhost", "/x"), verify=fake_http.ssl_context())
    assert answer.json()["path"] == "/x"
    fake_http.assert_delivered()
    assert fake_http.scenario.name == "http/healthy"

def test_it_is_another_one_each_time(fake_http):
    assert len(fake_http.journal) == 0
"""
        ).assert_outcomes(passed=2)

    def test_an_app_behind_the_faults_with_fast_forward(self, run, pytester: pytest.Pytester) -> None:
        (pytester.path / "own.toml").write_text(
            'protocol = "http"\n[params]\noutage = "5m"\n[server]\ntls = "implicit"\n[[phase]]\nname = "busy"\n'
            'lasts = "{outage}"\n[[phase.rule]]\non = "request"\nstatus = 503\n[[phase]]\nname = "recovered"\n'
        )
        run(
            """
import httpx
import time

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mine"})

@pytest.mark.notnow("own.toml", app=app, outage="10m")
def test_it(fake_http, fast_forward):
    with httpx.Client(http2=True, verify=fake_http.ssl_context()) as client:
        while (answer := client.get(fake_http.url)).status_code == 503:
            time.sleep(120)
    assert answer.text == "mine"
    fake_http.assert_retried(times=5, backoff="constant")
"""
        ).assert_outcomes(passed=1)

    def test_a_failing_test_shows_connections_as_lanes(self, run) -> None:
        result = run(
            """
import httpx

def test_it(fake_http):
    httpx.get(fake_http.url + "/x", verify=fake_http.ssl_context())
    fake_http.assert_retried()
"""
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*a lane for each connection*", "*#1 SNI none*", "*GET 127.0.0.1/x 200*"])


class TestFTP:
    def test_a_fake_is_healthy_without_a_marker(self, run) -> None:
        run(
            """
def test_it(fake_ftp):
    upload(fake_ftp)
    fake_ftp.assert_delivered(times=1)
    fake_ftp.assert_stored("x", b"hello")
    assert fake_ftp.scenario.name == "ftp/healthy"
    assert sorted(fake_ftp.files) == ["big.bin", "small.txt", "x"]

def test_it_is_another_one_each_time(fake_ftp):
    assert sorted(fake_ftp.files) == ["big.bin", "small.txt"]
    assert len(fake_ftp.journal) == 0
"""
        ).assert_outcomes(passed=2)

    def test_a_scenario_of_ones_own_with_fast_forward(self, run, pytester: pytest.Pytester) -> None:
        (pytester.path / "own.toml").write_text(FTP_OUTAGE)
        run(
            """
@pytest.mark.notnow("own.toml", outage="10m")
def test_retries(fake_ftp, fast_forward):
    upload(fake_ftp, tries=6)
    fake_ftp.assert_stored("x", "hello")
    fake_ftp.assert_retried(backoff="exponential", first_delay=60)

@pytest.mark.notnow("own.toml")
def test_by_the_protocol_of_the_scenario(fake_server):
    assert fake_server.protocol == "ftp"
    assert list(fake_server.files) == ["there.txt"]

@pytest.mark.notnow("own.toml", files={"mine": b"1"}, users={"ann": "x"}, tls="starttls")
def test_server_options(fake_ftp):
    assert list(fake_ftp.files) == ["mine"]
    assert (fake_ftp.users, fake_ftp.tls) == ({"ann": "x"}, "starttls")
"""
        ).assert_outcomes(passed=3)

    def test_one_marker_for_each_protocol(self, run) -> None:
        run(
            """
@pytest.mark.notnow("smtp/overload", outage="10m")
@pytest.mark.notnow("ftp/healthy", files={})
def test_both(fake_smtp, fake_ftp, fast_forward):
    upload(fake_ftp)
    send(fake_smtp, tries=6)
    upload(fake_ftp, content=b"another")
    assert fake_smtp.clock is fake_ftp.clock
    fake_smtp.assert_retried(times=4)
    fake_ftp.assert_delivered()
    at = [round(c.opened_at) for c in fake_ftp.journal.connections]
    assert at == [0, round(fake_smtp.journal.connections[-1].opened_at)]

@pytest.mark.notnow("*/healthy")
def test_every(fake_server):
    assert fake_server.scenario.name == f"{fake_server.protocol}/healthy"
"""
        ).assert_outcomes(passed=4)

    def test_fakes_of_two_protocols_from_the_factory(self, run) -> None:
        run(
            """
def test_it(fake_servers):
    both = fake_servers(mail="smtp/healthy", files="ftp/healthy")
    upload(both.files)
    send(both.mail)
    assert both.files.journal.server == "files"
    assert both.files.journal.connections[0].index < both.mail.journal.connections[0].index
"""
        ).assert_outcomes(passed=1)

    def test_all_fakes_of_the_factory_stop_even_if_one_has_failed(self, run) -> None:
        result = run(
            """
kept = []

def test_it(fake_servers):
    both = fake_servers(mail="smtp/healthy", files="ftp/healthy")
    kept.extend([both.mail, both.files])
    for fake in kept:
        fake._bridge.runner.call(lambda: fake._bridge.failed(ValueError(fake.name)))

def test_the_next():
    assert [fake.running for fake in kept] == [False, False]
"""
        )
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(
            ["E*the smtp fake itself failed: ValueError('mail')", "E*the ftp fake itself failed*"]
        )

    def test_the_factory_asks_for_names(self, run) -> None:
        result = run(
            """
def test_it(fake_servers):
    fake_servers("smtp/overload")
"""
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E*needs a name for each fake, as in fake_servers(primary='smtp/overload')"])

    def test_the_factory_asks_for_scenarios(self, run) -> None:
        result = run(
            """
def test_it(fake_servers):
    fake_servers(primary=3)
"""
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E*there is no scenario '3'; allowed: see `notnow list`*"])

    def test_a_failing_test_shows_both_channels(self, run, pytester: pytest.Pytester) -> None:
        cut = 'protocol = "ftp"\n[[phase]]\n[[phase.rule]]\non = "stor"\nafter_bytes = 3\nreply = "421 cut"\n'
        (pytester.path / "cut.toml").write_text(cut)
        result = run(
            """
@pytest.mark.notnow("cut.toml")
def test_it(fake_ftp):
    upload(fake_ftp)
    fake_ftp.assert_delivered()
""",
            "--notnow-trace=on",
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "E*AssertionError: expected every file to be delivered once, but none was delivered: the client was told '421 cut'*",
                "*- notnow -*",
                "*x /x up: 3 bytes, cut; transfer: 421 cut*",
                "*C  STOR x",
                "*D  (passive) 3 bytes received, then closed",
                "*S  421 cut   (and closes)*",
            ]
        )
        (trace,) = pytester.path.glob("notnow-traces/*.jsonl")
        entries = [json.loads(line) for line in trace.read_text().splitlines()]
        (stor,) = [entry for entry in entries if entry.get("moment") == "stor"]
        assert stor["facts"]["bytes"] == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ('"ftp/healthy", files={"a": 5}', "files: 'a' is 5; allowed: bytes"),
            ('"ftp/healthy", cap=3', "there is no knob 'cap'"),
            ('"ftp/healhty"', "there is no scenario 'ftp/healhty'*did you mean 'ftp/healthy'"),
        ],
    )
    def test_a_bad_marker_is_a_usage_error(self, run, arguments: str, message: str) -> None:
        result = run(f"@pytest.mark.notnow({arguments})\ndef test_it(fake_ftp): pass")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*test_it*@pytest.mark.notnow: *{message}*"])

    def test_where_warnings_are_errors(self, run) -> None:
        """What the libraries below warn of is not for our users to silence."""
        run(
            """
def test_it(fake_ftp):
    with ftplib.FTP() as client:
        client.connect(fake_ftp.host, fake_ftp.port)
        client.login()
        client.sendcmd("MFMT 20200102030405 small.txt")
        client.cwd("/")
    upload(fake_ftp)
""",
            ini="filterwarnings = error",
        ).assert_outcomes(passed=1)


def test_servers_of_a_factory_share_clock_and_order(run) -> None:
    run(
        """
from notnow import scenario

def test_it(fake_servers):
    both = fake_servers(primary=scenario("smtp/overload", outage="2s"), backup="smtp/healthy")
    send(both.primary)
    send(both.backup)
    assert both.primary.clock is both.backup.clock
    assert both.primary.journal.connections[0].index < both.backup.journal.connections[0].index
    both.backup.assert_delivered()
"""
    ).assert_outcomes(passed=1)


MISTAKES = {
    "a name that is not there": (
        '"smtp/overlaod"',
        "there is no scenario 'smtp/overlaod'*did you mean 'smtp/overload'",
    ),
    "an unknown knob": (
        '"smtp/overload", outag="1s"',
        "there is no knob 'outag'; allowed: like, outage; did you mean 'outage'",
    ),
    "a bad value": ('"smtp/overload", outage="soon"', "knob 'outage' is 'soon'; allowed: a number and a unit"),
    "an option that is not smtp's": ('"smtp/healthy", files={}', "'files' is no option of smtp servers"),
    "no name": ("", "takes the name of one scenario"),
    "a pattern that matches nothing": ('"smtp/zzz*"', "no scenario matches 'smtp/zzz?'"),
    "a knob that no match has": ('"smtp/over*", cap=1', "has a knob 'cap'"),
    "a file that is not there": ('"nowhere.toml"', "there is no scenario file 'nowhere.toml'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_marker_is_a_usage_error_before_any_test_runs(run, mistake: str) -> None:
    arguments, message = MISTAKES[mistake]
    result = run(
        f"""
def test_first():
    print("this test must not run")

@pytest.mark.notnow({arguments})
def test_it(fake_smtp):
    pass
""",
        "-s",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*test_it*@pytest.mark.notnow: *{message}*".replace("[", "[[]")])
    assert "this test must not run" not in result.stdout.str()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--notnow-seed=x", "--notnow-seed is 'x'; allowed: a whole number"),
        ("--notnow-trace=yes", "--notnow-trace is 'yes'; allowed: on, off, retain-on-failure"),
    ],
)
def test_a_bad_option_is_a_usage_error(run, option: str, message: str) -> None:
    result = run("def test_it(): pass", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_the_help_names_all_options_under_one_heading(run) -> None:
    output = run("", "--help").stdout.str()
    section = output.partition('fake servers that say "not now":')[2].partition("\n\n")[0]
    options = "--notnow-found", "--notnow-cell", "--notnow-seed", "--notnow-scenarios", "--notnow-trace"
    assert all(option in section for option in options)


def test_the_header_names_version_and_seed(run) -> None:
    run("def test_it(): pass", "--notnow-seed=42").stdout.fnmatch_lines(["notnow: *, seed 42 (--notnow-seed)"])
    run("def test_it(): pass", ini="notnow_seed = 43").stdout.fnmatch_lines(["notnow: *, seed 43 *"])


def test_the_seed_reaches_every_xdist_worker(run) -> None:
    run(
        """
@pytest.mark.parametrize("n", range(6))
def test_it(fake_smtp, n):
    assert fake_smtp.seed == 4242
    send(fake_smtp)
    fake_smtp.assert_delivered()
""",
        "-n2",
        "--notnow-seed=4242",
    ).assert_outcomes(passed=6)


def test_a_bad_marker_is_reported_under_xdist_too(run) -> None:
    result = run(
        """
@pytest.mark.notnow("smtp/nothing")
def test_it(fake_smtp):
    pass
""",
        "-n2",
    )
    assert result.ret != 0
    assert "there is no scenario 'smtp/nothing'" in result.stdout.str() + result.stderr.str()


TWO = """
def test_good(fake_smtp):
    send(fake_smtp)

def test_bad(fake_smtp):
    send(fake_smtp)
    assert False
"""


@pytest.mark.parametrize(("when", "files"), [("on", 2), ("off", 0), ("retain-on-failure", 1)])
def test_traces_are_written_when_asked_for(run, pytester: pytest.Pytester, when: str, files: int) -> None:
    run(TWO, f"--notnow-trace={when}").assert_outcomes(passed=1, failed=1)
    written = list(pytester.path.glob("notnow-traces/*.jsonl"))
    assert len(written) == files
    for file in written:
        entries = [json.loads(line) for line in file.read_text().splitlines()]
        assert any(entry.get("moment") == "message" for entry in entries)


def test_an_exception_in_the_adapter_fails_the_test(run) -> None:
    result = run(
        """
def test_it(fake_smtp, monkeypatch):
    from notnow.servers.smtp.session import SMTPSession
    monkeypatch.setattr(SMTPSession, "_store", lambda *_: 1 / 0)
    send(fake_smtp)
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*FakeError: the smtp fake itself failed: ZeroDivisionError*"])


def test_each_test_gets_a_clean_fake_and_the_thread_is_reused(run) -> None:
    run(
        """
import threading
seen = []

@pytest.mark.parametrize("n", range(3))
def test_it(fake_smtp, n):
    assert len(fake_smtp.journal) == 0
    send(fake_smtp)
    seen.append(next(t for t in threading.enumerate() if t.name == "notnow"))
    assert len(set(seen)) == 1
"""
    ).assert_outcomes(passed=3)


def test_the_plugin_imports_nothing_heavy_until_it_is_needed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    code = (
        "import sys, pytest; pytest.main(['-q']); "
        "print('heavy:', sorted({m.partition('.')[0] for m in sys.modules} & {'msgspec', 'aiosmtpd', 'pyftpdlib', 'trustme', 'rich', 'click'}),"
        " sorted(m for m in sys.modules if m.startswith('notnow')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=pytester.path)
    loaded = ["notnow", "notnow.environment", "notnow.protocols", "notnow.pytest_plugin", "notnow.pytest_run"]
    assert out.stdout.splitlines()[-1] == f"heavy: [] {loaded}"


def test_pytest_finds_every_hook_and_fixture_of_the_plugin_and_no_other_name() -> None:
    from notnow import pytest_plugin

    hooks = {name for name in vars(pytest_plugin) if name.startswith("pytest_") and hasattr(hookspec, name)}
    fixture = type(pytest_plugin.fake_smtp)
    fixtures = {name for name, value in vars(pytest_plugin).items() if type(value) is fixture}
    assert set(dir(pytest_plugin)) == hooks | fixtures
    assert {
        "pytest_addoption",
        "pytest_runtest_makereport",
        "fake_smtp",
        "fake_ftp_session",
        "fast_forward",
    } < hooks | fixtures
    assert all(hasattr(pytest_plugin, name) for name in dir(pytest_plugin))


@pytest.mark.parametrize("option", ["", "--notnow-trace=never"])
def test_a_run_that_ends_gives_the_process_back_its_environment(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile(
        "from notnow import environment\ndef test_it(): assert type(environment.current).__name__ == 'RunEnvironment'"
    )
    before = environment.current
    result = pytester.inline_run(*option.split())
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if option else pytest.ExitCode.OK)
    assert environment.current is before


def test_the_thread_of_the_loop_starts_and_ends_the_fakes_of_fixtures(run) -> None:
    """A thread for each start and each stop would be most of what a fixture costs."""
    run(
        """
import pytest
from notnow.servers.base import stopping

@pytest.fixture(autouse=True)
def no_other_thread(monkeypatch):
    def refuse(work):
        raise AssertionError("a thread is started for this")

    monkeypatch.setattr(stopping, "in_peace", refuse)

def test_it(fake_smtp, fake_ftp, fake_http, fake_smtp_module, fake_servers):
    pair = fake_servers(one="smtp/healthy", two="ftp/healthy")
    assert all(fake.running for fake in (fake_smtp, fake_ftp, fake_http, pair.one, pair.two))
"""
    ).assert_outcomes(passed=1)


def test_no_fixture_asks_for_the_request(pytester: pytest.Pytester) -> None:
    """For that argument pytest makes three fixtures more in each test."""
    ours = ["fake_smtp", "fake_ftp", "fake_http", "fake_server", "fake_servers", "fake_smtp_module", "fake_ftp_session"]
    one, other = pytester.getitems(f"def test_it({', '.join(ours)}): pass\ndef test_time(fast_forward): pass")
    assert one.fixturenames == [*ours[5:][::-1], *ours[:5]]
    assert other.fixturenames == ["fast_forward"]


def test_a_test_that_is_over_keeps_no_fake(run) -> None:
    """A run of thousands of tests would keep everything that clients ever sent."""
    run(
        """
import gc, weakref
from notnow import FakeSMTP
made = []

def test_first(fake_smtp):
    with FakeSMTP() as own:
        made.extend([weakref.ref(fake_smtp), weakref.ref(own)])

def test_second():
    gc.collect()
    assert [ref() for ref in made] == [None, None]
"""
    ).assert_outcomes(passed=2)
