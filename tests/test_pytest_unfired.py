"""A passed test whose scenarios have faults of which none fired; and how a client tells its test how it ended."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    def runner(test: str, *, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(textwrap.dedent(test))
        pytester.makeini(f"[pytest]\n{ini}")
        return pytester.runpytest_subprocess("-p", "no:pytester")

    return runner


class TestUnfired:
    """A passed test whose scenarios have faults of which none fired."""

    TEST = """
        import pytest
        import smtplib

        @pytest.mark.notnow("smtp/too-many-connections", cap=CAP)
        def test_it(fake_smtp):
            with smtplib.SMTP(fake_smtp.host, fake_smtp.port):
                try:
                    smtplib.SMTP(fake_smtp.host, fake_smtp.port).quit()
                except smtplib.SMTPConnectError:
                    pass
    """
    SAID = "nothing was tested: smtp/too-many-connections has faults at connect, and none of them fired"

    def test_a_warning_unless_told_otherwise(self, run: Run) -> None:
        result = run(self.TEST.replace("CAP", "5"))
        result.assert_outcomes(passed=1, warnings=1)
        result.stdout.fnmatch_lines([f"*PytestWarning: {self.SAID} (notnow_unfired in the configuration*"])

    def test_none_where_a_fault_fired(self, run: Run) -> None:
        run(self.TEST.replace("CAP", "1"), ini="notnow_unfired = error").assert_outcomes(passed=1, warnings=0)

    def test_an_error(self, run: Run) -> None:
        result = run(self.TEST.replace("CAP", "5"), ini="notnow_unfired = error")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*{self.SAID}*"])

    def test_nothing(self, run: Run) -> None:
        run(self.TEST.replace("CAP", "5"), ini="notnow_unfired = ignore").assert_outcomes(passed=1, warnings=0)

    def test_a_word_that_there_is_not(self, run: Run) -> None:
        result = run(self.TEST, ini="notnow_unfired = wran")
        result.stderr.fnmatch_lines(["ERROR: notnow_unfired is 'wran'; allowed: error, warn, ignore"])

    def test_one_fault_of_several_fakes_is_enough(self, run: Run) -> None:
        test = """
            import smtplib

            def test_it(fake_servers):
                servers = fake_servers(primary="smtp/overload", backup="smtp/too-many-connections")
                try:
                    smtplib.SMTP(servers.primary.host, servers.primary.port)
                except smtplib.SMTPConnectError:
                    pass
        """
        run(test, ini="notnow_unfired = error").assert_outcomes(passed=1)


def test_a_client_tells_how_it_ended(run: Run) -> None:
    test = """
        import smtplib
        import pytest

        @pytest.mark.notnow("smtp/overload", outage="1h")
        def test_it(fake_smtp):
            with pytest.raises(smtplib.SMTPConnectError), fake_smtp.client():
                smtplib.SMTP(fake_smtp.host, fake_smtp.port)
            assert fake_smtp.result.word == "reported"
            with pytest.raises(AssertionError, match="smtp.tries-again"):
                fake_smtp.assert_conduct()
            fake_smtp.assert_conduct(accept="reported")

        @pytest.mark.notnow("smtp/overload", outage="1h")
        def test_lost(fake_smtp):
            with fake_smtp.client():
                try:
                    smtplib.SMTP(fake_smtp.host, fake_smtp.port)
                except smtplib.SMTPConnectError:
                    pass
            assert fake_smtp.result.sentence == "lost: 1 item, and the client exited with 0"
    """
    run(test).assert_outcomes(passed=2)
