"""`sweep=True` in the marker: a test of each cell behind the healthy test."""

from __future__ import annotations

import pytest

CLIENT = """
    import smtplib, time
    import pytest

    def send(fake, tries=2, recipients=("b@x.test", "c@x.test")):
        for _ in range(tries):
            connection = smtplib.SMTP(timeout=30)
            try:
                connection.connect(fake.host, fake.port)
                connection.sendmail("a@x.test", recipients, "Message-ID: <1@x.test>\\n\\nhello")
                return
            except (OSError, smtplib.SMTPException):
                time.sleep(60)
            finally:
                connection.close()
        raise RuntimeError("not sent")
"""


def run(pytester: pytest.Pytester, tests: str, *words: str) -> pytest.RunResult:
    pytester.makepyfile(CLIENT + tests)
    return pytester.runpytest("-p", "no:cacheprovider", *words)


def test_each_cell_is_a_test_of_its_own_name(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    @pytest.mark.notnow("smtp/healthy", sweep=["421", "451"])
    def test_mail(fake_smtp, fast_forward):
        send(fake_smtp)
    """,
        "-rA",
    )
    result.assert_outcomes(passed=12, failed=2)  # the healthy one, 7 times 421 and 6 times 451
    result.stdout.fnmatch_lines(
        [
            "RCPT TO:<b@x.test> is answered 451: lost: 1 of 2 items, and the client exited with 0",
            "again: pytest *::test_mail --notnow-cell 'rcpt#1:451'",
            "sweep rcpt#1:451, seed *",
            "*451 4.3.0 Temporary failure*",
            "PASSED *::test_mail",
            "PASSED *::test_mail[[]connect#1:421[]]",
            "PASSED *::test_mail[[]rcpt#1:421[]]",
            "FAILED *::test_mail[[]rcpt#1:451[]]*",
        ]
    )


def test_one_cell_again(pytester: pytest.Pytester) -> None:
    tests = """
    @pytest.mark.notnow("smtp/healthy", sweep=True)
    def test_mail(fake_smtp, fast_forward):
        send(fake_smtp)
    """
    run(pytester, tests, "--notnow-cell", "rcpt#1:451").assert_outcomes(passed=1, failed=1)


def test_what_the_client_raises_fails_the_test_of_its_cell(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    @pytest.mark.notnow("smtp/healthy", sweep=["421"])
    def test_once(fake_smtp, fast_forward):
        send(fake_smtp, tries=1)

    @pytest.mark.notnow("smtp/healthy", sweep=["421"])
    def test_reports(fake_smtp, fast_forward):
        try:
            with fake_smtp.client():
                send(fake_smtp, tries=1)
        except RuntimeError:
            pass
    """,
        "--notnow-cell",
        "mail#1:421",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*test_once[[]mail#1:421[]]*", "E *RuntimeError: not sent"])


def test_an_empty_second_try_fails_the_test_of_its_cell(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    @pytest.mark.notnow("smtp/healthy", sweep=["451"])
    def test_reads_once(fake_smtp, fast_forward):
        left = ["Message-ID: <1@x.test>\\n\\nhello"]
        for _ in range(2):
            with smtplib.SMTP(fake_smtp.host, fake_smtp.port) as connection:
                try:
                    connection.sendmail("a@x.test", ["b@x.test"], left.pop() if left else "")
                    return
                except smtplib.SMTPException:
                    pass
    """,
        "--notnow-cell",
        "message#1:451",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*lost: only 2 of 33 bytes came through for b@x.test*"])


def test_the_client_must_not_fail_without_a_fault(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    @pytest.mark.notnow("smtp/healthy", sweep=True)
    def test_idle(fake_smtp):
        pass
    """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the client fails without any fault: the client never connected*"])


def test_parameters_classes_and_fixtures_of_a_wider_scope(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    MADE = []

    @pytest.fixture(scope="module")
    def shared():
        MADE.append("made")
        yield MADE
        MADE.append("gone")

    @pytest.mark.notnow("smtp/healthy", sweep=["close"])
    class TestMail:
        @pytest.mark.parametrize("count", [1, 2])
        def test_mail(self, fake_smtp, fast_forward, shared, count):
            send(fake_smtp, recipients=["b@x.test", "c@x.test"][:count])
            assert shared == ["made"]

    def test_afterwards(shared):
        assert shared == ["made"]
    """,
        "-rA",
    )
    result.assert_outcomes(passed=1 + 1 + 6 + 1 + 7)
    result.stdout.fnmatch_lines(["PASSED *::TestMail::test_mail[[]2-rcpt#2:close[]]"])


def test_an_event_that_is_not_reached_is_a_skip(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    RUNS = []

    @pytest.mark.notnow("smtp/healthy", sweep=["421"])
    def test_mail(fake_smtp, fast_forward):
        send(fake_smtp)
        RUNS.append(1)
        if len(RUNS) == 1:
            smtplib.SMTP(fake_smtp.host, fake_smtp.port).close()
    """,
        "--notnow-cell",
        "connect#2:421",
        "-rs",
    )
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*the client did not come to this event*"])


def test_a_client_that_waits_for_ever_is_hung_up_on(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notnow.pytest_sweep.TIMEOUT", 0.3)
    result = run(
        pytester,
        """
    @pytest.mark.notnow("smtp/healthy", sweep=["stall"])
    def test_mail(fake_smtp):
        try:
            with smtplib.SMTP(fake_smtp.host, fake_smtp.port) as connection:
                connection.sendmail("a@x.test", "b@x.test", "hello")
        except OSError:
            pass
    """,
        "--notnow-cell",
        "data#1:stall",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["DATA never gets a reply: hung: the client did not end*"])


def test_under_xdist(pytester: pytest.Pytester) -> None:
    tests = """
    @pytest.mark.notnow("smtp/healthy", sweep=["421"])
    @pytest.mark.parametrize("n", [1, 2])
    def test_mail(fake_smtp, fast_forward, n):
        send(fake_smtp)
    """
    run(pytester, tests, "-n2").assert_outcomes(passed=2 + 2 * 7)


@pytest.mark.parametrize(
    ("fixture", "marker", "said"),
    [
        ("fake_smtp", '"smtp/overload", sweep=True', "smtp/overload has faults of its own, at connect"),
        ("fake_smtp", '"smtp/healthy", sweep=["422"]', "there is no fault '422'*did you mean '421'"),
        ("fake_smtp", '"smtp/healthy", sweep="421"', "sweep is '421'; allowed: True, or a list of faults such as*"),
        ("fake_smtp_session", '"smtp/healthy", sweep=True', "*ask for fake_smtp in place of fake_smtp_session"),
    ],
)
def test_mistakes_stop_the_run(pytester: pytest.Pytester, fixture: str, marker: str, said: str) -> None:
    result = run(
        pytester,
        f"""
    @pytest.mark.notnow({marker})
    def test_mail({fixture}):
        send({fixture})
    """,
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*@pytest.mark.notnow: {said.replace('[', '[[]')}*"])
