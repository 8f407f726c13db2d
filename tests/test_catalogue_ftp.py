"""The catalogue for FTP as playbooks: who is refused when, what frees a place, and in which order the fake does it.

The words of the servers are not repeated here beyond what tells one reply from another: tests/test_catalogue_live.py
looks for each of them on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notnow.language import catalogue
from playbook import (
    CLIENT,
    SILENT,
    Alert,
    Answered,
    Asked,
    Certify,
    Close,
    Closed,
    EndData,
    Ended,
    Hang,
    Heard,
    Hello,
    Known,
    Leaving,
    Opened,
    Playbook,
    Playing,
    Proceed,
    Reached,
    Send,
    Tick,
    To,
    Wait,
    Watch,
    fired,
    playing,
)

UNAVAILABLE = Send("421 Service not available, closing control connection.")
FULL = Send("421 There are too many connected users, please try later.")
KICKED = Send("421 Kicked by Administrator")
BEHAVES = Proceed()
UPLOADS = ("stor", "appe", "stou")
DATA = ("fin", "reset", "drain")


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


def enter(book: Playbook, *conns: str, user: str = "ann", client: str = CLIENT) -> None:
    """Somebody connects and logs in, and is let in."""
    for conn in conns:
        book >> Opened(conn, client) << BEHAVES
        log_in(book, conn, user)


def log_in(book: Playbook, conn: str, user: str = "ann") -> None:
    book >> Asked(conn, "login", user=user) << BEHAVES
    book >> Known(conn, {"user": user})


def transfer(conn: str, moment: str = "retr", mode: str = "passive") -> Asked:
    return Asked(conn, moment, command=moment.upper(), mode=mode, path="/file")


# ---- overload ------------------------------------------------------------------------------------


def test_overload_ends_after_the_outage(play):
    book = play("ftp/overload", outage="10m", like="proftpd")
    for now in (0, 1, 599.9):
        book.at(now) >> Opened(f"at {now}") << Send("421 System busy…") << Close()
    book.at(600) >> Opened("b") << BEHAVES


def test_overload_leaves_those_alone_who_are_in(play):
    book = play("ftp/healthy")
    enter(book, "a")
    book.play("ftp/overload")
    book >> Asked("a", "noop", command="NOOP") << BEHAVES
    book >> Opened("b") << UNAVAILABLE << Close()


def test_a_busy_server_greets_one_after_the_other(play):
    book = play("ftp/busy", outage="10s", capacity="2/s", queue=1, refusal_cost="50%")
    book >> Opened("a") << Send("421 System busy…") << Close()
    book.at(10)
    for wait in (0.5, 1.0):
        book >> Opened(f"{wait}") << Wait(wait) << BEHAVES
    book >> Opened("b") << Send("421 System busy…") << Close()
    book.at(11) >> Opened("c") << Wait(0.75) << BEHAVES  # the refusal of b has cost half a unit


def test_flapping_goes_round(play):
    book = play("ftp/flapping-overload", down="10s", up="20s")
    for start in (0, 30, 60):
        book.at(start) >> Opened(f"{start}") << UNAVAILABLE << Close()
        book.at(start + 10) >> Opened(f"{start + 10}") << BEHAVES


def test_a_busy_greeting_says_how_long_it_takes(play):
    book = play("ftp/busy-greeting", outage="40m")
    lines = "421-fake.notnow.test is too busy to provide files right now.", "421 Please come back in {} seconds."
    for now, left in ((0, 2400), (360, 2040), (2399.5, 1)):
        book.at(now) >> Opened(f"{now}") << Send(lines[0], lines[1].format(left)) << Close()
    book.at(2400) >> Opened("b") << BEHAVES


def test_a_blocked_address_is_turned_away(play):
    play("ftp/ip-blocked") >> Opened("a") << Send("421 Service not available.") << Close()
    book = play("ftp/ip-blocked", like="silent")
    book >> Opened("a") << Close()
    book.at(30) >> Opened("b") << BEHAVES


# ---- caps ----------------------------------------------------------------------------------------


def test_too_many_users_and_what_frees_a_place(play):
    book = play("ftp/too-many-users", cap=2)
    enter(book, "a", "b")
    for refused in ("c", "d"):
        book >> Opened(refused) << FULL << Close()
    book >> Closed("c")  # who was refused had no place
    book >> Opened("e") << FULL << Close()
    book >> Leaving("a")  # it says QUIT: that is enough
    book >> Opened("f") << BEHAVES
    book >> Opened("g") << FULL << Close()


def test_too_many_users_may_be_said_after_the_password(play):
    book = play("ftp/too-many-users", cap=1, stage="login", like="filezilla")
    book >> Opened("idle") << BEHAVES  # who is not logged in has no place
    enter(book, "a")
    book >> Opened("b") << BEHAVES
    book >> Asked("b", "login", user="bob") << Send("421 Too many users are connected…") << Close()
    book >> Closed("a")
    log_in(book, "idle")


def test_too_many_from_one_address(play):
    book = play("ftp/too-many-per-client", cap=1, like="pure-ftpd")
    book >> Opened("a", "192.0.2.1") << BEHAVES
    book >> Opened("b", "192.0.2.1") << Send("421 Too many connections (1) from this IP") << Close()
    book >> Opened("c", "192.0.2.2") << BEHAVES
    book >> Closed("a")
    book >> Opened("d", "192.0.2.1") << BEHAVES


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ("pure-ftpd", "421 I can't accept more than 1 connections as the same user"),
        ("filezilla-09", "421 Too many users logged in for this account. Try again later."),
        ("filezilla", "421 Too many active connections, try again later"),
    ],
)
def test_too_many_of_one_user(play, like, words):
    book = play("ftp/too-many-per-user", cap=1, like=like)
    enter(book, "a", user="ann")
    enter(book, "b", user="bob")
    book >> Opened("c") << BEHAVES
    book >> Asked("c", "login", user="ann") << Send(words)
    if like == "filezilla":  # it keeps the connection, where one may log in as somebody else, or later
        log_in(book, "c", "carl")
        book >> Opened("d") << BEHAVES
        book >> Asked("d", "login", user="ann") << Send(words)
        book >> Leaving("a")
        log_in(book, "d", "ann")
    else:
        book << Close()


@pytest.mark.parametrize(
    ("per", "refused", "let_in"),
    [
        ("server", ("bob", "192.0.2.2"), None),
        ("client", ("bob", "192.0.2.1"), ("ann", "192.0.2.2")),
        ("user", ("ann", "192.0.2.2"), ("bob", "192.0.2.1")),
    ],
)
def test_proftpds_three_limits(play, per, refused, let_in):
    book = play("ftp/proftpd-max-clients", cap=1, per=per)
    enter(book, "a", user="ann", client="192.0.2.1")
    book >> Opened("b", refused[1]) << BEHAVES
    book >> Asked("b", "login", user=refused[0]) << Send("530 Sorry, the maximum number of …") << Close()
    if let_in:
        enter(book, "c", user=let_in[0], client=let_in[1])


def test_proftpd_says_530_in_place_of_a_greeting(play):
    book = play("ftp/proftpd-max-connections", cap=1)
    book >> Opened("a", "192.0.2.1") << BEHAVES
    book >> Opened("b", "192.0.2.1") << Send("530 Sorry, the maximum number of connections (1)…") << Close()
    book >> Opened("c", "192.0.2.2") << BEHAVES


def test_proftpd_closes_without_a_word(play):
    book = play("ftp/proftpd-max-instances", cap=1)
    book >> Opened("a") << BEHAVES
    book >> Opened("b") << Close()
    book >> Leaving("a")
    book >> Opened("c") << BEHAVES


def test_the_connection_rate_is_a_sliding_window(play):
    book = play("ftp/proftpd-connection-rate", connections=2, window="10s")
    for now, let_in in ((0, True), (4, True), (9.9, False), (10, True), (13, False), (14, True)):
        book.at(now) >> Opened(f"{now}") << (BEHAVES if let_in else Close())


def test_transfers_in_progress_have_a_cap_of_their_own(play):
    refused = EndData("fin"), Send("425 Can't open data connection.")
    book = play("ftp/too-many-transfers", cap=1, like="rfc")
    enter(book, "a", "b")
    book >> transfer("a", "stor") << BEHAVES
    book >> transfer("b", "list") << To("b", *refused)
    book >> Ended("b", "list")
    book >> Asked("b", "noop", command="NOOP") << BEHAVES  # 425 does not close
    book >> Ended("a", "stor")
    book >> transfer("b", "list") << BEHAVES
    book >> transfer("a", "retr") << To("a", *refused)


# ---- time-outs -----------------------------------------------------------------------------------


def test_idle_sessions_hold_their_places_until_they_time_out(play):
    book = play("ftp/idle-sessions", cap=2, timeout="60s")
    enter(book, "a", "b")
    book.at(30) >> Asked("b", "noop", command="NOOP") << BEHAVES
    book.at(59) >> Opened("c") << FULL << Close()
    book.at(60) >> Tick() << To("a", Send("421 Timeout."), Close())
    book >> Opened("d") << BEHAVES
    book >> Opened("e") << FULL << Close()
    book.at(90) >> Opened("f") << To("b", Send("421 Timeout."), Close()) << BEHAVES


def test_who_transfers_is_not_idle(play):
    for name in ("ftp/idle-sessions", "ftp/idle-timeout", "ftp/no-transfer-timeout"):
        book = play(name, timeout="60s")
        enter(book, "a")
        book >> transfer("a") << BEHAVES
        book.at(600) >> Tick()
        book.at(610) >> Ended("a", "retr")
        book.at(669) >> Tick()
        book.at(670) >> Tick() << To("a", Send("421 …"), Close())


def test_iis_says_421_twice(play):
    book = play("ftp/idle-timeout", timeout="2m", like="iis")
    enter(book, "a")
    lines = "421 Timeout (120 seconds): closing control connection.", "421 Terminating connection."
    book.at(120) >> Tick() << To("a", Send(*lines), Close())


def test_noop_does_not_help_against_a_no_transfer_timeout(play):
    book = play("ftp/no-transfer-timeout", timeout="60s", like="filezilla")
    enter(book, "a")
    for now in (20, 40, 59):
        book.at(now) >> Asked("a", "noop", command="NOOP") << BEHAVES
    book.at(60) >> Tick() << To("a", Send("421 No-transfer-time exceeded…"), Close())


def test_a_login_timeout_counts_from_the_connect(play):
    book = play("ftp/login-timeout", timeout="60s")
    book >> Opened("a") << BEHAVES
    enter(book, "b")
    book.at(59) >> Asked("a", "user", command="USER", user="ann") << BEHAVES
    said = Send("421 Login timeout (60 seconds): closing control connection")
    book.at(60) >> Tick() << To("a", said, Close())
    book.at(6000) >> Tick()


def test_a_session_ends_amid_a_transfer(play):
    book = play("ftp/session-timeout", timeout="60s")
    enter(book, "a")
    book.at(50) >> transfer("a") << BEHAVES
    book.at(59) >> Heard("a")
    book.at(60) >> Tick() << To("a", Send("421 Session Timeout (60 seconds)…"), Close())


@pytest.mark.parametrize("data", DATA)
def test_a_transfer_that_stalls_is_cut_before_it_is_said(play, data):
    book = play("ftp/data-timeout", timeout="60s", data=data)
    enter(book, "a", "b")
    for now in (100, 130):  # who has no transfer has no data time-out; bytes end a stall
        book.at(now) >> (transfer("a") if now == 100 else Heard("a"))
        book.skip()
    book.at(189) >> Tick()
    book.at(190) >> Tick() << To("a", EndData(data), Send("421 Data timeout. Reconnect. Sorry."), Close())


def test_a_passive_port_that_nobody_comes_to(play):
    book = play("ftp/passive-timeout", timeout="60s")
    enter(book, "a")
    book >> Asked("a", "pasv", command="PASV") << BEHAVES
    book >> Known("a", {"mode": "passive"})
    gone = EndData("fin"), Send("421 Passive data channel timed out.")
    book.at(60) >> Tick() << To("a", *gone)
    book >> Known("a", {"mode": None})  # the port is closed
    book.at(300) >> Tick()
    book >> Asked("a", "noop", command="NOOP") << BEHAVES


def test_a_passive_port_that_a_transfer_waits_at(play):
    book = play("ftp/passive-timeout", timeout="60s")
    enter(book, "a")
    book >> Known("a", {"mode": "passive"})
    book >> transfer("a") << BEHAVES
    book.at(60) >> Tick()


# ---- cut by the server ---------------------------------------------------------------------------


def test_an_administrator_kicks_all_who_are_in(play):
    book = play("ftp/kicked", n=2)
    enter(book, "a")
    book >> Opened("idle") << BEHAVES
    book >> Opened("b") << BEHAVES
    book >> Asked("b", "login", user="bob") << BEHAVES  # its 230 comes first
    book << To("a", KICKED, Close()) << To("idle", KICKED, Close()) << To("b", KICKED, Close())
    enter(book, "c")


def test_an_administrator_kicks_at_last(play):
    book = play("ftp/kicked", up="20s", like="silent", n=9)
    enter(book, "a")
    book.at(20) >> Tick() << To("a", Close())


@pytest.mark.parametrize(("like", "word"), [("filezilla", KICKED), ("rfc", UNAVAILABLE), ("silent", None)])
@pytest.mark.parametrize("data", DATA)
def test_a_download_is_cut_at_a_byte(play, like, word, data):
    book = play("ftp/killed-mid-download", bytes=1000, data=data, like=like)
    enter(book, "a")
    book >> transfer("a") << Watch(1000) << BEHAVES
    book >> Reached("a") << EndData(data)
    if word:
        book << word
    book << Close()
    enter(book, "b")
    book >> transfer("b") << BEHAVES


def test_a_download_that_is_aborted_keeps_its_session(play):
    book = play("ftp/killed-mid-download", times=2, like="vsftpd")
    enter(book, "a")
    for _ in range(2):
        book >> transfer("a") << Watch(1000000) << BEHAVES
        book >> Reached("a") << EndData("fin") << Send("426 Failure writing network stream.")
        book >> Ended("a", "retr")
    book >> transfer("a") << BEHAVES


def test_what_is_over_before_that_byte_is_not_cut(play):
    book = play("ftp/killed-mid-download")
    enter(book, "a")
    book >> transfer("a") << Watch(1000000) << BEHAVES
    book >> Ended("a", "retr")
    book >> Reached("a")
    book >> transfer("a") << BEHAVES


@pytest.mark.parametrize("verb", UPLOADS)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("like", "steps"),
    [
        ("filezilla", (KICKED, Close())),
        ("rfc", (UNAVAILABLE, Close())),
        ("aborted", (Send("426 Connection closed; transfer aborted."),)),
        ("silent", (Close(),)),
    ],
)
def test_an_upload_is_cut_at_a_byte(play, verb, keep, like, steps):
    book = play("ftp/killed-mid-upload", bytes=1000, keep=keep, like=like)
    enter(book, "a")
    book >> transfer("a") << BEHAVES  # a download is none of its business
    book >> Ended("a", "retr")
    book >> transfer("a", verb) << Watch(1000) << BEHAVES
    book >> Reached("a") << EndData("reset", keep=keep) << To("a", *steps)
    enter(book, "b")
    book >> transfer("b", verb) << BEHAVES


def test_a_transfer_stalls_at_a_byte(play):
    book = play("ftp/stalled-transfer", bytes=1000)
    enter(book, "a")
    book >> transfer("a", "stor") << Watch(1000) << BEHAVES
    book >> Reached("a") << Hang()
    book >> Closed("a")
    enter(book, "b")
    book >> transfer("b", "stor") << BEHAVES


def test_a_shutdown_comes_with_a_transfer_and_ends(play):
    book = play("ftp/shutdown", n=2, outage="30s")
    enter(book, "a", "b")
    book >> transfer("a", "list") << BEHAVES
    book >> Ended("a", "list")
    offline = Send("421 Server is going offline"), Close()
    book.at(5) >> transfer("b") << BEHAVES << To("a", *offline) << To("b", *offline)
    for now in (5, 34.9):
        book.at(now) >> Opened(f"{now}") << Close("reset")
    book.at(35) >> Opened("c") << BEHAVES


def test_a_shutdown_comes_without_a_transfer_as_well(play):
    book = play("ftp/shutdown", up="10s")
    enter(book, "a")
    book.at(10) >> Tick() << To("a", Send("421 Server is going offline"), Close())


def test_maintenance_is_announced_comes_and_ends(play):
    book = play("ftp/maintenance", warning="1m", outage="10m")
    greeting = "220 fake.notnow.test FTP server going down for maintenance in {} seconds"
    book >> Opened("a") << Proceed(greeting.format(60))
    book.at(48) >> Opened("b") << Proceed(greeting.format(12))
    gone = Send("421 FTP server shutting down - maintenance"), Close()
    refused = Send("500 FTP server shut down (maintenance) -- please try again later"), Close()
    book.at(60) >> Opened("c") << To("a", *gone) << To("b", *gone) << To("c", *refused)
    book.at(659) >> Opened("d") << To("d", *refused)
    book.at(660) >> Opened("e") << BEHAVES


# ---- logging in ----------------------------------------------------------------------------------


def test_wrong_passwords_are_counted_for_each_connection(play):
    book = play("ftp/max-login-attempts", attempts=2)
    for conn in ("a", "b"):
        book >> Opened(conn) << BEHAVES
        book >> Answered(conn, 530, "PASS")
        book >> Answered(conn, 550, "CWD")  # no password
    book >> Answered("a", 530, "PASS") << Close()


def test_a_421_may_follow_the_last_wrong_password(play):
    book = play("ftp/max-login-attempts", attempts=1, like="rfc")
    book >> Opened("a") << BEHAVES
    book >> Answered("a", 530, "PASS") << UNAVAILABLE << Close()


def test_only_anna_has_a_password(play):
    assert catalogue.scenario("ftp/max-login-attempts", password="sesame").server.users == {"anna": "sesame"}


# ---- TLS -----------------------------------------------------------------------------------------


def test_clear_text_is_refused_until_there_is_tls(play):
    book = play("ftp/tls-required")
    book >> Opened("a") << BEHAVES
    user = Asked("a", "user", command="USER", user="ann")
    for _ in range(2):  # Pure-FTPd says 421 and stays
        book >> user
        book << Send(
            "421-Sorry, cleartext sessions and weak ciphers are not accepted on this server.",
            "421 Please reconnect using TLS security mechanisms.",
        )
    book >> Asked("a", "auth", command="AUTH") << BEHAVES
    book >> Hello("a", "localhost") << BEHAVES
    book >> user << BEHAVES


def test_clear_text_may_be_refused_with_a_close_or_with_530(play):
    for like, *steps in (("rfc", UNAVAILABLE, Close()), ("not-logged-in", Send("530 Not logged in."))):
        book = play("ftp/tls-required", like=like)
        book >> Opened("a") << BEHAVES
        book >> Asked("a", "user", command="USER", user="ann") << To("a", *steps)


def test_auth_is_refused_for_a_while(play):
    auth = Asked("a", "auth", command="AUTH")
    book = play("ftp/auth-tls-refused")
    book >> Opened("a") << BEHAVES
    book >> auth << Send("431 Need some unavailable resource to process security.")
    book.at(30) >> auth << BEHAVES
    book = play("ftp/auth-tls-refused", like="proftpd")
    book >> Opened("a") << BEHAVES
    book >> auth << Send("421 TLS handshake failed") << Close()


def test_handshakes_are_refused_for_a_while(play):
    book = play("ftp/tls-handshake-refused", alert="internal_error")
    book >> Opened("a") << BEHAVES
    book >> Hello("a", None) << Alert("internal_error")
    book >> Opened("b") << BEHAVES
    book.at(30) >> Hello("b", None) << BEHAVES


@pytest.mark.parametrize("wrong", ["expired", "untrusted", "wrong"])
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_a_bad_certificate_is_shown_for_a_while(play, wrong, mode):
    assert catalogue.scenario(f"ftp/{wrong}-certificate", mode=mode).server.tls == mode
    book = play(f"ftp/{wrong}-certificate", mode=mode)
    book >> Opened("a") << BEHAVES
    book >> Hello("a", "localhost") << Certify(wrong) << BEHAVES
    book >> Opened("b") << BEHAVES
    book.at(30) >> Hello("b", "localhost") << BEHAVES


# ---- data connections ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["retr", "stor", "appe", "stou", "list", "nlst", "mlsd"])
def test_active_mode_is_blocked_at_the_transfer(play, moment):
    book = play("ftp/active-blocked", like="rfc")
    enter(book, "a")
    book >> Asked("a", "port", command="PORT") << BEHAVES
    book >> transfer("a", moment, "active") << EndData("fin") << Send("425 Can't open data connection.")
    book >> Ended("a", moment)
    book >> transfer("a", moment, "passive") << BEHAVES


def test_passive_mode_is_blocked_by_dropping_packets(play):
    book = play("ftp/passive-blocked")
    enter(book, "a")
    book >> Asked("a", "pasv", command="PASV") << EndData("drop") << BEHAVES
    book >> Asked("a", "epsv", command="EPSV") << EndData("drop")
    book << Proceed("229 Entering Extended Passive Mode (|||{data.port}|).")
    book >> Asked("a", "port", command="PORT") << BEHAVES
    book >> transfer("a", mode="active") << BEHAVES


def test_passive_mode_is_blocked_where_nobody_listens(play):
    book = play("ftp/passive-blocked", how="refused")
    enter(book, "a")
    book >> Asked("a", "pasv", command="PASV") << Send("227 Entering Passive Mode (127,0,0,1,{p1},{p2}).")
    book >> Asked("a", "epsv", command="EPSV") << Send("229 Entering Extended Passive Mode (|||{data.port}|).")


@pytest.mark.parametrize("what", ["private", "elsewhere", "port"])
def test_a_wrong_passive_reply_opens_a_port_all_the_same(play, what):
    book = play("ftp/wrong-passive-reply", what=what)
    enter(book, "a")
    book >> Asked("a", "pasv", command="PASV") << Proceed("227 Entering Passive Mode (…")
    book >> Asked("a", "epsv", command="EPSV") << BEHAVES


# ---- at a stage ----------------------------------------------------------------------------------


def test_421_comes_at_a_stage_and_goes(play):
    for name, steps in (("ftp/at-stage", (UNAVAILABLE, Close())), ("ftp/bare-close", (Close(),))):
        book = play(name, stage="cwd", n=2)
        enter(book, "a", "b", "c")
        for conn in ("a", "b"):  # each connection has a second one of its own
            book >> Asked(conn, "cwd", command="CWD", path="/") << BEHAVES
            book >> Asked(conn, "cwd", command="CWD", path="/") << To(conn, *steps)
        book >> Asked("c", "cwd", command="CWD", path="/") << BEHAVES
        book.at(30) >> Asked("c", "cwd", command="CWD", path="/") << BEHAVES


@pytest.mark.parametrize("stage", ["retr", "stor", "transfer"])
def test_a_transfer_that_is_refused_has_its_data_connection_closed_first(play, stage):
    moment = "list" if stage == "transfer" else stage
    for name, steps in (("ftp/at-stage", (UNAVAILABLE, Close())), ("ftp/bare-close", (Close(),))):
        book = play(name, stage=stage)
        enter(book, "a")
        book >> transfer("a", moment) << EndData("fin") << To("a", *steps)


@pytest.mark.parametrize("how", ["fin", "abrupt", "reset"])
def test_a_bare_close_has_three_forms(play, how):
    book = play("ftp/bare-close", stage="pasv", how=how)
    enter(book, "a")
    book >> Asked("a", "pasv", command="PASV") << Close(how)
    enter(book, "b")
    book.at(30) >> Asked("b", "pasv", command="PASV") << BEHAVES


@pytest.mark.parametrize(("like", "word"), [("filezilla", Send("421 Could not create socket.")), ("rfc", UNAVAILABLE)])
def test_a_421_that_does_not_close(play, like, word):
    book = play("ftp/open-after-421", like=like)
    enter(book, "a")
    port = Asked("a", "port", command="PORT")
    for now in (0, 29):
        book.at(now) >> port << word
    book >> Asked("a", "pasv", command="PASV") << BEHAVES
    book.at(30) >> port << BEHAVES


# ---- kept, accepted, full ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", UPLOADS)
@pytest.mark.parametrize(
    ("like", "steps"),
    [
        ("rfc", (Proceed("421 Service not available, closing control connection."), Close())),
        ("aborted", (Proceed("426 Connection closed; transfer aborted."),)),
        ("silent", (SILENT, Close())),
    ],
)
def test_an_upload_is_kept_and_yet_refused(play, verb, like, steps):
    book = play("ftp/kept-then-421", like=like)
    enter(book, "a")
    book >> transfer("a", verb) << To("a", *steps)
    enter(book, "b")
    book >> transfer("b", verb) << BEHAVES


@pytest.mark.parametrize("verb", ["retr", *UPLOADS])
def test_each_transfer_is_accepted_and_then_421(play, verb):
    both = Proceed("226 Closing data connection.", "421 Service not available, closing control connection.")
    book = play("ftp/accepted-then-421")
    for conn in ("a", "b"):
        enter(book, conn)
        book >> transfer(conn, "list") << BEHAVES
        book >> Ended(conn, "list")
        book >> transfer(conn, verb) << both << Close()


def test_uploads_find_no_room_for_a_while(play):
    book = play("ftp/storage-full")
    enter(book, "a")
    for verb in UPLOADS:
        book >> transfer("a", verb) << EndData("fin") << Send("452 Requested action not taken…")
        book >> Ended("a", verb)
    book >> transfer("a", "retr") << BEHAVES
    book >> Ended("a", "retr")
    book.at(30) >> transfer("a", "stor") << BEHAVES


def test_a_quota_is_the_servers(play):
    made = catalogue.scenario("ftp/quota-exceeded", quota="5MB").server
    assert (made.quota, made.files) == (5_000_000, {})


# ---- slow ----------------------------------------------------------------------------------------


def test_every_reply_is_late_and_slow(play):
    book = play("ftp/slow-replies", delay="3s", drip="10ms")
    for event in (Opened("a"), Asked("a", "user", command="USER", user="ann"), transfer("a", "list")):
        book >> event << Wait(3.0) << Proceed(drip=0.01)


def test_a_greeting_never_comes_or_late(play):
    book = play("ftp/stalled-greeting")
    book >> Opened("a") << Hang()
    book.at(30) >> Opened("b") << BEHAVES
    play("ftp/stalled-greeting", how="late", delay="7s") >> Opened("a") << Wait(7.0) << BEHAVES


# ---- chance --------------------------------------------------------------------------------------


def storm(play: Playing, seed: int, now: float = 0.0) -> list[list[bool]]:
    """What happens to 60 clients, each of whom says PASV and RETR: at the connect, at PASV, amid the transfer."""
    book = play("ftp/weather", seed=seed).start().at(now)
    happened = []
    for n in range(60):
        events = Opened(f"{n}"), Asked(f"{n}", "pasv", command="PASV"), transfer(f"{n}"), Reached(f"{n}")
        connect, pasv, _, cut = fired(book, *events)
        happened.append([connect, pasv, cut])
    return happened


def test_a_storm_is_the_same_with_the_same_seed(play):
    assert storm(play, 1) == storm(play, 1)
    assert storm(play, 1) != storm(play, 2)


def test_a_storm_strikes_some_at_each_stage(play):
    for struck in zip(*storm(play, 1), strict=True):
        assert 5 <= sum(struck) <= 30


def test_after_a_storm_comes_a_calm_and_the_next_storm(play):
    assert not any(map(any, storm(play, 1, now=30)))
    assert any(map(any, storm(play, 1, now=90)))


def test_a_storm_cuts_transfers_at_a_byte(play):
    book = play("ftp/weather", chance="100%", bytes=10)
    book >> Opened("a") << UNAVAILABLE << Close()
    book = play("ftp/healthy")
    enter(book, "a")
    book.play("ftp/weather", chance="100%", bytes=10)
    book >> transfer("a") << Watch(10) << BEHAVES
    book >> Reached("a") << EndData("fin") << UNAVAILABLE << Close()
