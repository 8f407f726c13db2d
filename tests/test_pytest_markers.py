"""Markers that could do nothing, patterns in parameters, fakes that outlive a test: each in a pytest of its own."""

from __future__ import annotations

import pytest

HEAD = """
import smtplib
import pytest
from notnow import FakeSMTP

def once(fake):
    smtplib.SMTP(fake.host, fake.port, timeout=5).quit()
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    def runner(test: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + test)
        return pytester.runpytest_subprocess("-p", "no:pytester", "-p", "no:cacheprovider", *args)

    return runner


IDLE = {  # a test by its arguments and its marker, and what it is told
    "test_a(fake_smtp)": (
        '"ftp/overload"',
        "'ftp/overload' is for ftp, and this test asks for fake_smtp: ask for fake_ftp",
    ),
    "test_b()": ('"smtp/overload"', "nothing plays 'smtp/overload', since this test asks for no fixture of notnow"),
    "test_c(fake_servers)": ('"smtp/overload"', "fake_servers reads no marker, so nothing plays 'smtp/overload'"),
    "test_d(fast_forward)": ('"smtp/overload"', "add fake_smtp to its arguments"),
    "test_e(fake_smtp, tmp_path)": ('"http/[a-z]*"', "'http/[a-z]*' is for http"),
    "test_f(fake_http_session)": ('"smtp/overload"', "this test asks for fake_http_session: ask for fake_smtp"),
    "test_g(fake_smtp_session)": ('"smtp/*"', "ask for fake_smtp in place of fake_smtp_session"),
    "test_h(fake_ftp_module)": ('"ftp/healthy", files={}', "'files' is set when a server starts, and fake_ftp_module"),
    "test_i(fake_smtp)": (
        '"smtp/healthy")\n@pytest.mark.notnow("smtp/overload"',
        "'smtp/overload' and 'smtp/healthy' are both for smtp",
    ),
    "test_j(fake_smtp_session, fast_forward)": ('"smtp/overload"', "fake_smtp_session outlives the test"),
}


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_marker_that_can_do_nothing_is_told_once_before_any_test_runs(run, workers: tuple[str, ...]) -> None:
    tests = [f"@pytest.mark.notnow({mark})\ndef {test}: once(1)\n" for test, (mark, _) in IDLE.items()]
    result = run("\n".join([*tests, "def test_good(): print('this must not run')"]), "-s", *workers)
    said = result.stdout.str() + result.stderr.str()
    for test, (_, message) in IDLE.items():
        lines = [line for line in said.splitlines() if f"::{test.partition('(')[0]}: " in line]
        assert len(lines) == 1, said
        assert message in lines[0]
    assert "this must not run" not in said
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_markers_that_do_something_are_left_alone(run) -> None:
    result = run(
        """
class TestAll:
    pytestmark = pytest.mark.notnow("smtp/overload")

    def test_no_fake(self): pass

    @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.notnow("smtp/healthy"))])
    def test_nearer(self, fake_smtp, n):
        assert fake_smtp.scenario.name == ("smtp/overload" if n == 1 else "smtp/healthy")

@pytest.mark.notnow("smtp/overload")
def test_while_it_runs(request):
    assert request.getfixturevalue("fake_smtp").scenario.name == "smtp/overload"

@pytest.mark.notnow("s*/healthy")
def test_any(fake_smtp): pass
""",
        "-W",
        "error",
        "-o",
        "notnow_unfired=ignore",
    )
    result.assert_outcomes(passed=5)


def test_a_marker_that_a_test_might_have_read_is_a_warning(run) -> None:
    result = run('@pytest.mark.notnow("smtp/overload")\ndef test_it(request): pass\n')
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*PytestWarning: @pytest.mark.notnow: nothing plays 'smtp/overload'*"])


def test_a_pattern_in_a_param_is_a_test_for_each_scenario(run) -> None:
    result = run(
        """
@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.notnow("smtp/over*", outage="5s")), pytest.param("b"), 3])
def test_it(fake_smtp, n):
    assert fake_smtp.scenario.name == ("smtp/overload" if n == 1 else "smtp/healthy")
    assert fake_smtp.scenario.knobs.get("outage", "5s") == "5s"

@pytest.mark.parametrize("a, b", [pytest.param(1, 2, marks=pytest.mark.notnow("smtp/*-certificate"))], ids=["x"])
@pytest.mark.parametrize("c", [1, 2])
def test_two(fake_server, a, b, c):
    assert (a, b) == (1, 2) and "certificate" in fake_server.scenario.name
""",
        "-v",
    )
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(
        ["*test_it?1-smtp/overload? *", "*test_it?b? *", "*test_two?1-x-smtp/expired-certificate?*"]
    )


LASTING = """
@pytest.fixture(scope="session")
def server(fake_smtp_session):
    once(fake_smtp_session)  # before the test begins: healthy, and no part of any test
    return fake_smtp_session

ports = set()

@pytest.fixture
def healthy(server):
    return server.scenario.name == "smtp/healthy"

@pytest.mark.parametrize("n", [1, 2])
def test_it(server, healthy, n):
    once(server)
    assert healthy and server.journal.count("connect") == 1
    ports.add(server.port)
    assert len(ports) == 1

@pytest.mark.notnow("smtp/overload", outage="1h")
def test_marked(server, healthy):
    with pytest.raises(smtplib.SMTPConnectError):
        once(server)
    assert not healthy and server.journal.count("connect") == 1

def test_after(healthy): assert healthy

def test_failing(server):
    once(server)
    assert 0

def test_late(request):
    fake = request.getfixturevalue("fake_ftp_module")
    assert fake.scenario.name == "ftp/healthy" and sorted(fake.files)
"""


def test_a_fake_that_outlives_tests_is_new_for_each(run) -> None:
    result = run(LASTING)
    result.assert_outcomes(passed=5, failed=1)
    section = result.stdout.str().partition("- notnow -")[2]
    assert "smtp/healthy, seed " in section
    assert "#5 " in section
    assert "#4 " not in section  # of the tests before


BY_HAND = """
import time

@pytest.fixture
def server():
    with FakeSMTP("smtp/overload", outage="10m") as fake:
        yield fake

@pytest.fixture(scope="module")
def old():
    with FakeSMTP("smtp/overload", outage="10m") as fake:
        yield fake

def patient(fake):
    for wait in (60, 120, 240, 480, 960):
        try:
            with smtplib.SMTP(fake.host, fake.port, timeout=30) as client:
                client.sendmail("a@a.test", ["b@b.test"], "Subject: x")
            return
        except smtplib.SMTPException:
            time.sleep(wait)

def test_made_in_a_fixture_before(server, fast_forward):
    patient(server)
    server.assert_delivered()
    assert server.seed == 7 and server.clock is fast_forward.clock

def test_made_in_the_test(fast_forward, fake_ftp):
    with FakeSMTP("smtp/overload", outage="10m") as fake, FakeSMTP() as another:
        patient(fake)
        fake.assert_delivered()
        assert fake.clock is another.clock is fake_ftp.clock

def test_outlives_it(old, fast_forward):
    patient(old)
    old.assert_delivered()
"""


def test_a_fake_made_by_hand_has_the_clock_and_the_seed_of_the_test(run) -> None:
    result = run(BY_HAND, "--notnow-seed=7")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*none was delivered: the client came back 4 times and was refused again: the last time it was told '421*",
            "*- notnow -*",
            "smtp/overload, seed 7",
            "The clock of fast_forward does not move smtp (smtp/overload), which was made before it*",
            "*#5*",
        ]
    )


REPORTED = """
@pytest.fixture
def broken(fake_smtp):
    once(fake_smtp)
    assert 0

@pytest.fixture
def late(fake_smtp):
    yield
    once(fake_smtp)
    assert 0

def test_setup(broken): pass

def test_teardown(late): pass

def test_call(fake_smtp):
    once(fake_smtp)
    pytest.fail("in words", pytrace=False)

def test_by_hand():
    with FakeSMTP() as fake:
        once(fake)
        assert 0
"""


@pytest.mark.parametrize("shown", ["no", "stdout", "all"])
def test_a_failure_of_any_phase_has_the_section_whatever_is_shown_of_captured_output(run, shown: str) -> None:
    result = run(REPORTED, f"--show-capture={shown}", "--notnow-seed=7")
    result.assert_outcomes(passed=1, failed=2, errors=2)
    assert result.stdout.str().count("- notnow -") == 4
    assert result.stdout.str().count("smtp/healthy, seed 7") == 4


def test_each_test_has_a_trace_of_its_own(run, pytester: pytest.Pytester) -> None:
    run(
        f"""
@pytest.mark.parametrize("x", ["a/b", "a-b", "a b", "A b", "{"long" * 100}"])
def test_it(fake_smtp, x):
    once(fake_smtp)
""",
        "--notnow-trace=on",
    ).assert_outcomes(passed=5)
    assert len({file.name.lower() for file in pytester.path.glob("notnow-traces/*.jsonl")}) == 5


def test_a_test_that_makes_many_fakes_keeps_the_last_ones(pytester):
    """What a property or a loop makes by the hundred is let go; the report has those that were there in the end."""
    pytester.makepyfile(
        """
        import gc, weakref
        from notnow import FakeSMTP

        def test_many():
            made = []
            for n in range(50):
                with FakeSMTP(name=f"number{n}") as fake:
                    made.append(weakref.ref(fake))
            del fake
            gc.collect()
            assert sum(one() is not None for one in made) <= 21, "kept too many"
            assert False, "to see the report"
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*to see the report*", "*smtp/healthy*"])
    result.stdout.no_fnmatch_line("E *kept too many*")
