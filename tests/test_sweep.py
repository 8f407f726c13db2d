"""`notnow.chaos.sweep`: what a client does, every fault at every event of it, and what becomes of its items."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import tomllib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from chaos_clients import CAREFUL, CLIENTS, TROUBLE, Client, Planted, deliver, letter, line, persists, said, tries
from notnow import FakeFTP, FakeSMTP, FastForwardError, ScenarioError, protocols
from notnow.chaos import sweep
from notnow.chaos.calling import base_for
from notnow.chaos.cells import Base, Hit, base_of, pairs, plan
from notnow.chaos.faults import fault, smtp
from notnow.chaos.matrix import Matrix
from notnow.chaos.steps import Step, steps
from notnow.chaos.sweeping import SweepError
from notnow.language.loading import loads

MAIL = "Message-ID: <1@x.test>\n\nhello"


def send(fake: Any, *recipients: str) -> None:
    with smtplib.SMTP(fake.host, fake.port, timeout=5) as connection:
        connection.sendmail("a@x.test", recipients or ["b@x.test"], MAIL)


def swept(client: Client, **more: Any) -> Matrix:
    return sweep(client.protocol, client.run, **client.options, **more)


def results(matrix: Matrix) -> dict[str, str]:
    return {one.cell.id: one.word for one in matrix.outcomes}


# ---- clients whose faults are known --------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
def test_it_finds_each_planted_fault(name: str, fast_forward: object) -> None:
    client: Planted = CLIENTS[name]
    matrix = swept(client)
    assert matrix.first.result.asked == client.items
    assert not matrix.unsteady
    assert matrix.exit == 1
    word = client.harm if client.harm in ("lost", "duplicated") else "exposed"
    assert {*matrix.of(word)} == {*matrix.bad}
    with pytest.raises(AssertionError, match=rf"^\d+ cells? of the sweep: .*(?s:.)*{matrix.worst[0].cell.id}"):
        matrix.assert_none(word)


@pytest.mark.parametrize("name", CAREFUL)
def test_careful_clients_survive_every_fault(name: str, fast_forward: object) -> None:
    matrix = swept(CAREFUL[name])
    matrix.assert_none(
        "lost", "duplicated", "exposed", "hung", "false alarm", "reported", "broken", "not reached", "unknown"
    )
    assert matrix.exit == 0


@pytest.mark.parametrize(
    ("name", "faults", "at_least"),
    [  # a part of the pairs; `python -m tests.bench --only sweep.pairs` runs all of them
        ("sends-each-message-on-its-own", ["421", "kept-421", "451"], 140),
        ("sends-a-batch-on-one-connection", ["close", "kept-close"], 120),
        ("sends-a-batch-on-one-connection", ["421-open", "cut"], 120),
        ("downloads", ["stall", "cut"], 80),
        ("uploads", ["450", "cut-421"], 80),
        ("gets-and-puts", ["429", "reset", "cut"], 40),
        ("posts-with-a-key", [], 160),
    ],
)
def test_careful_clients_survive_two_faults(name: str, faults: list[str], at_least: int, fast_forward: object) -> None:
    client = CAREFUL[name]
    matrix = sweep(client.protocol, client.less or client.run, pairs=True, faults=faults, **client.options)
    assert len(matrix.pairs) >= at_least
    matrix.assert_none(
        "lost", "duplicated", "exposed", "hung", "false alarm", "reported", "broken", "not reached", "unknown"
    )


def test_the_second_fault_counts_as_rules_do(fast_forward: object) -> None:
    for cell in (
        "request#1:kept-503+request#2:cut",
        "request#1:kept-close+request#2:cut",
        "request#1:421+request#2:cut",
        "connect#1:421+request#1:cut",
    ):
        assert results(swept(CAREFUL["posts-with-a-key"], cells=[cell])) == {cell: "delivered"}
    assert (
        results(swept(CAREFUL["gets-and-puts"], cells=["request#2:kept-503+request#3:cut"])).popitem()[1] == "delivered"
    )
    for cell in ("message#1:cut+message#1:cut-421", "message#1:kept-421+message#2:cut"):
        assert results(swept(CAREFUL["sends-each-message-on-its-own"], cells=[cell])) == {cell: "delivered"}
    for cell in ("stor#1:cut+stor#2:kept-421", "stor#1:late-451+stor#2:late-451"):
        assert results(swept(CAREFUL["uploads"], cells=[cell])) == {cell: "delivered"}


def encrypts(fake: Any) -> None:
    trusted = ssl.create_default_context(cafile=fake.ca_file)
    left = ["b@x.test"]
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            said(connection.docmd("STARTTLS"))
            connection.sock = trusted.wrap_socket(connection.sock, server_hostname=fake.host)
            connection.file = None
            said(connection.ehlo())
            deliver(connection, letter(1, *left), left)
            return


@pytest.mark.parametrize(
    ("protocol", "tls", "client"),
    [("smtp", "starttls", encrypts), ("http", "implicit", lambda fake: persists(fake, "GET"))],
)
def test_two_handshakes_may_fail(protocol: str, tls: str, client: Callable[[Any], None], fast_forward: object) -> None:
    cells = ["tls#1:alert", "tls#1:alert+tls#2:alert"]
    assert results(sweep(protocol, client, tls=tls, cells=cells)) == dict.fromkeys(cells, "delivered")


# ---- events and cells ----------------------------------------------------------------------------


def test_steps_count_as_rules_do() -> None:
    with FakeSMTP() as fake:
        send(fake, "b@x.test", "c@x.test")
        send(fake)
        fake.settle()
        found = steps(fake.scenario, fake.journal.since_play())
    assert " ".join(step.id for step in found) == (
        "connect#1 ehlo#1 mail#1 rcpt#1 rcpt#2 data#1 message#1 quit#1 connect#2 ehlo#2 mail#2 rcpt#3 data#2 message#2 quit#2"
    )
    assert [step.connected for step in found if step.moment == "mail"] == [1, 1]
    assert [(step.size > 20, step.changes, step.inner) for step in found if step.moment == "message"] == [
        (True, True, 1), (True, True, 2)
    ]  # fmt: skip
    assert found[4].said == "RCPT TO:<c@x.test>"


def test_a_handshake_is_a_step_where_it_happens() -> None:
    with FakeSMTP(tls="starttls") as fake:
        with smtplib.SMTP(fake.host, fake.port) as connection:
            connection.starttls()
            connection.ehlo()
        fake.settle()
        found = steps(fake.scenario, fake.journal.since_play())
    assert [step.moment for step in found] == ["connect", "ehlo", "starttls", "tls", "ehlo", "quit"]


def test_commands_without_a_moment_of_their_own_are_steps() -> None:
    def asks(fake: Any) -> None:
        with smtplib.SMTP(fake.host, fake.port) as connection:
            for command in ("HELP", "VRFY ann", "XFOO", "help me"):
                connection.docmd(command)
            connection.sendmail("a@x.test", ["b@x.test"], MAIL)

    matrix = sweep("smtp", asks, faults=["close"], at=["any"])
    assert [(one.cell.id, one.word) for one in matrix.outcomes] == [
        ("help#1:close", "reported"),
        ("vrfy#1:close", "reported"),
        ("xfoo#1:close", "reported"),
        ("help#2:close", "reported"),
    ]


def test_later_chunks_of_a_message_are_steps() -> None:
    def chunks(fake: Any) -> None:
        with smtplib.SMTP(fake.host, fake.port) as connection:
            connection.ehlo()
            connection.mail("a@x.test")
            connection.rcpt("b@x.test")
            for verb, text in (("BDAT 24", f"{MAIL[:20]}\r\n\r\n"), ("BDAT 5 LAST", "hello")):
                connection.send(f"{verb}\r\n{text}".encode())
                if connection.getreply()[0] != 250:
                    raise smtplib.SMTPException

    assert results(sweep("smtp", chunks, faults=["451"], at=["data", "any"])) == {
        "data#1:451": "reported", "bdat#2:451": "reported"
    }  # fmt: skip


def a_step(moment: str) -> Step:
    return Step(moment, 2, moment, size=10, changes=True, framed=True, inner=3, connected=1, index=5)


@pytest.mark.parametrize("protocol", protocols.NAMES)
def test_every_cell_is_a_valid_scenario_without_warnings(protocol: str) -> None:
    moments = [name for name, moment in protocols.get(protocol).moments.items() if not (moment.unasked or moment.body)]
    base = Base(protocol, f'\n[server]\ntls = "{"implicit" if protocol == "http" else "starttls"}"\n')
    found = plan(base, [a_step(moment) for moment in moments])
    assert {hit.fault for cell in found.cells for hit in cell.hits} == {*fault.of_protocol(protocol)}
    for cell in found.cells:
        scenario = cell.scenario
        assert scenario.warnings == ()
        assert len(scenario.faulty) == 1
        assert scenario.summary == cell.in_words
        assert "{" not in cell.in_words


def test_the_server_of_a_scenario_stays() -> None:
    text = """
        summary = "A server"
        protocol = "ftp"
        [params]
        who = "x"
        [server]
        users = { "ann" = "{who} s3\\"cret" }
        files = { "/a b" = "1KB" }
        [certificate.mine]
        names = ["a.test"]
        """
    base = base_of(loads(text))
    assert base.healthy.server == loads(text).server
    assert base.healthy.certificates == loads(text).certificates
    assert tomllib.loads(base.tables).keys() == {"params", "server", "certificate"}


def test_a_scenario_with_faults_is_no_base() -> None:
    with pytest.raises(
        ScenarioError, match=r"smtp/overload has faults of its own, at connect; allowed: a protocol, or a sc"
    ):
        base_for("smtp/overload")


def test_what_cannot_differ_is_left_out_and_said() -> None:
    get = replace(a_step("request"), changes=False, framed=False, size=1)
    found = plan(Base("http"), [get])
    assert found.left_out == Counter(
        {
            "cut is close there: there are no two bytes to cut": 1,
            "kept-503 is 503 there: a safe request changes nothing (RFC 9110 §9.2.1)": 1,
            "kept-close is close there: a safe request changes nothing (RFC 9110 §9.2.1)": 1,
            "refused is close there: HTTP/1.1 has no frames": 1,
            "goaway is close there: HTTP/1.1 has no frames": 1,
        }
    )
    assert not {"cut", "kept-503", "kept-close", "refused", "goaway"} & {
        cell.hits[0].fault.name for cell in found.cells
    }


def test_the_second_fault_comes_after_the_first_and_elsewhere() -> None:
    first = next(one for one in smtp.FAULTS if one.name == "421")
    seen = [replace(a_step("mail"), nth=n, index=n) for n in (1, 2, 3)]
    found = pairs(Base("smtp"), Hit(seen[1], first), seen, since=1, only=["421"])
    assert [cell.id for cell in found.cells] == ["mail#2:421+mail#3:421"]
    (cell,) = found.cells
    assert [rule.nth for rule in cell.scenario.rules()] == [2, 3]


def test_moments_confine_both_faults_and_what_is_left_out(fast_forward: object) -> None:
    matrix = swept(CAREFUL["gets-and-puts"], pairs=True, at=["connect"], faults=["421", "refused"])
    assert results(matrix).keys() == {"connect#1:421", "connect#2:421", "connect#1:421+connect#2:421"} | {
        f"connect#{n}:421+connect#3:421" for n in (1, 2)
    }
    assert not matrix.left_out


def test_pairs_with_a_fault_that_lasts_are_counted() -> None:
    stays = next(one for one in fault.of_protocol("http") if one.stays)
    once = next(one for one in fault.of_protocol("http") if one.name == "503")
    seen = [replace(a_step("request"), nth=n, index=n) for n in (1, 2)]
    for first in (stays, once):
        found = pairs(Base("http"), Hit(seen[0], first), seen, since=1, only=["421-stays"])
        assert found.cells == []
        assert found.left_out == Counter({"a fault that lasts is not one of two: counts restart with its phase": 1})


# ---- clients that differ from run to run ---------------------------------------------------------


def test_a_client_that_works_only_once_is_told_with_both_runs() -> None:
    queue = ["b@x.test"]

    def flushes(fake: Any) -> None:
        while queue:
            send(fake, queue.pop())

    told = r"from run to run, without any fault: first delivered: 1 item; then the client never connected.*--before CMD"
    with pytest.raises(SweepError, match=told):
        sweep("smtp", flushes)


def test_less_mail_than_in_another_run_is_not_lost() -> None:
    runs = iter([2, 1, 1])

    def sends_some(fake: Any) -> None:
        send(fake, *["b@x.test", "c@x.test"][: next(runs)])

    matrix = sweep("smtp", sends_some, cells=["quit#1:close"])
    assert matrix.unsteady
    assert results(matrix) == {"quit#1:close": "delivered"}


# ---- what a cell shows ---------------------------------------------------------------------------


def test_a_copy_that_cannot_be_avoided_is_told_by_whether_it_can_be_recognised() -> None:
    def named(fake: Any, text: str = MAIL) -> None:
        for _ in range(2):
            try:
                with smtplib.SMTP(fake.host, fake.port) as connection:
                    connection.sendmail("a@x.test", ["b@x.test"], text)
                return
            except smtplib.SMTPException:
                continue

    marked = sweep("smtp", named, cells=["message#1:kept-421"])
    assert [(one.word, one.copies) for one in marked.outcomes] == [("delivered", "recognisable")]
    assert "ok" in str(marked)
    assert "a second copy, which the receiver can recognise" in str(marked)
    unmarked = sweep("smtp", lambda fake: named(fake, "hello"), cells=["message#1:kept-421"])
    assert [(one.word, one.copies) for one in unmarked.outcomes] == [("duplicated", "not recognisable")]
    assert "no Message-ID" in str(unmarked)


def test_the_client_cannot_know_that_a_refused_message_was_kept() -> None:
    assert results(sweep("smtp", send, cells=["message#1:kept-421", "quit#1:421"])) == {
        "message#1:kept-421": "reported",
        "quit#1:421": "false alarm",
    }


def test_a_client_that_waits_for_ever_hangs_and_is_hung_up_on() -> None:
    def waits(fake: Any) -> None:
        with smtplib.SMTP(fake.host, fake.port) as connection:
            connection.sendmail("a@x.test", ["b@x.test"], MAIL)

    matrix = sweep("smtp", waits, cells=["mail#1:stall"], timeout="200ms")
    assert results(matrix) == {"mail#1:stall": "hung"}
    assert matrix.exit == 1


def test_under_fast_forward_a_deadlock_is_a_hang(fast_forward: object) -> None:
    def waits(fake: Any) -> None:
        with smtplib.SMTP(fake.host, fake.port) as connection:
            connection.sendmail("a@x.test", ["b@x.test"], MAIL)

    assert results(sweep("smtp", waits, cells=["rcpt#1:stall"])) == {"rcpt#1:stall": "hung"}


def test_what_fast_forward_refuses_is_no_hang() -> None:
    def refused(_: object) -> None:
        raise FastForwardError("a wait for a deadlock detector, in a call that fast_forward refuses")

    with pytest.raises(FastForwardError, match="refuses"):
        sweep("smtp", refused)


def test_a_coroutine_function_may_be_the_client() -> None:
    async def client(fake: Any) -> None:
        await asyncio.to_thread(send, fake)

    assert results(sweep("smtp", client, cells=["mail#1:421"])) == {"mail#1:421": "reported"}


def test_a_downgrade_is_seen_though_everything_came_through() -> None:
    matrix = swept(CLIENTS["falls-back-to-clear-text"], cells=["starttls#1:421-open"])
    (one,) = matrix.outcomes
    assert (one.word, one.exposed, one.bad) == ("delivered", True, True)
    assert "^" in str(matrix)


# ---- healthy runs, budgets, mistakes -------------------------------------------------------------


def test_a_client_that_fails_without_a_fault() -> None:
    def broken(fake: Any) -> None:
        send(fake)
        raise KeyError("no queue")

    told = "the client fails without any fault: false alarm: .* raised KeyError"
    with pytest.raises(SweepError, match=told) as caught:
        sweep("smtp", broken)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(SweepError, match="the client never connected"):
        sweep("smtp", lambda _fake: None)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"count": 0}, ValueError, "count is 0; allowed: a whole number, 1 or more"),
        ({"count": "3"}, TypeError, "count is '3'; allowed: a whole number, 1 or more"),
        ({"timeout": "soon"}, ValueError, "timeout is 'soon'; allowed: "),
        ({"faults": "422"}, ScenarioError, "there is no fault '422'.*did you mean '421'"),
        ({"at": ["rctp"]}, ScenarioError, "there is no moment 'rctp'.*did you mean 'rcpt'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        sweep("smtp", send, **arguments)


def test_the_client_is_a_function() -> None:
    wrong: Any = "outbox.flush"
    with pytest.raises(TypeError, match=r"client is 'outbox.flush'; allowed: a function"):
        sweep("smtp", wrong)


def test_one_name_may_stand_by_itself() -> None:
    assert results(sweep("smtp", send, faults="421", at="rcpt")) == {"rcpt#1:421": "reported"}
    assert results(sweep("smtp", send, cells="quit#1:close")) == {"quit#1:close": "delivered"}


def test_a_client_that_does_not_do_the_same_twice() -> None:
    runs = iter(range(1000))

    def unsteady(fake: Any) -> None:
        send(fake, *["b@x.test", "c@x.test"][: 1 + next(runs) % 2])

    matrix = sweep("smtp", unsteady, at=["connect"], faults=["421"])
    assert matrix.unsteady
    text = str(matrix)
    assert "did not do the same in its two healthy runs" in text
    assert "first: connect ehlo mail rcpt data message quit" in text
    assert "second: connect ehlo mail rcpt rcpt data message quit" in text


def test_an_event_that_is_not_reached_tests_nothing() -> None:
    runs = iter(range(1000))

    def once(fake: Any) -> None:
        send(fake)
        if next(runs) < 2:
            with socket.create_connection((fake.host, fake.port)) as connection:
                connection.recv(100)

    matrix = sweep("smtp", once, cells=["connect#2:421"])
    assert results(matrix) == {"connect#2:421": "not reached"}
    assert matrix.exit == 4
    with pytest.raises(AssertionError, match="nothing was tested"):
        matrix.assert_none()


def test_a_budget_of_nothing_leaves_all_cells_undone() -> None:
    matrix = sweep("smtp", send, at=["mail"], budget=0.000001)
    assert (matrix.outcomes, matrix.undone) == ([], 6)
    assert "not run: 6 cells, because the budget was used up or the sweep was stopped" in str(matrix)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"faults": ["422"]}, "there is no fault '422'; allowed: 421, .*; did you mean '421'"),
        ({"at": ["rctp"]}, "there is no moment 'rctp'; .*did you mean 'rcpt'"),
        ({"cells": ["rcpt#9:421"]}, "there is no cell 'rcpt#9:421'; .*did you mean 'rcpt#1:421'"),
        (
            {"cells": ["rcpt#1:421+mail#9:421"]},
            "there is no cell 'rcpt#1:421.mail#9:421'; allowed: .*; after the first fault, this client comes to none",
        ),
    ],
)
def test_unknown_names_are_told_with_what_is_allowed(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        sweep("smtp", send, **given)


def test_words_that_are_no_results() -> None:
    with pytest.raises(ValueError, match="there is no result 'losst'; .*did you mean 'lost'"):
        sweep("smtp", send, cells=["mail#1:421"]).assert_none("losst")


def test_the_fakes_of_a_sweep_are_not_those_of_the_test(request: pytest.FixtureRequest) -> None:
    from notnow.pytest_run import ENVIRONMENT

    sweep("smtp", send, cells=["mail#1:421"])
    assert request.config.stash[ENVIRONMENT].fakes_of(request.node) == []


def test_files_of_the_options_are_fresh_in_every_cell() -> None:
    import ftplib
    import io

    def upload(fake: FakeFTP) -> None:
        with ftplib.FTP() as connection:
            connection.connect(fake.host, fake.port)
            connection.login()
            assert connection.nlst() == ["old"]
            connection.storbinary("STOR new", io.BytesIO(b"12345"))

    found: Callable[..., Matrix] = sweep
    assert set(results(found("ftp", upload, at=["stor"], faults=["421", "cut"], files={"/old": "1KB"})).values()) == {
        "reported"
    }
