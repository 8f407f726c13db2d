"""The private seams of pyftpdlib that notnow stands on, each asked of the library itself.

When one of these fails after an upgrade, this is the seam that has moved; `notnow.servers.ftp.connection` names them.
"""

from __future__ import annotations

import inspect
import io
import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from notnow.servers.ftp.connection import METHODS, PLAIN_COMMANDS, TLS_COMMANDS
from notnow.servers.ftp.data import DataConnection
from notnow.servers.ftp.data_ports import ActivePort, PassivePort
from notnow.servers.ftp.files import DEFAULT, Files
from notnow.servers.ftp.filesystem import MemoryFS, Permissive
from notnow.servers.ftp.handler import BegunHandler, NoLoop, NoServer, NoSocket, begun
from notnow.servers.ftp.session import FTPSession

import pyftpdlib  # isort: skip (what it needs warns of its age, where notnow does not import it first)
from pyftpdlib.exceptions import FilesystemError  # isort: skip
from pyftpdlib.filesystems import AbstractedFS  # isort: skip
from pyftpdlib.handlers import FTPHandler  # isort: skip
from pyftpdlib.handlers.ftp.producers import BufferedIteratorProducer, FileProducer  # isort: skip


class Port:
    """Stands for PassiveDTP and ActiveDTP: what was given, and whether it was closed."""

    def __init__(self, *given: Any, **more: Any) -> None:
        self.given, self.more, self.closed = given, more, False

    def close(self) -> None:
        self.closed = True


class Channel:
    """Stands for DTPHandler: what it was told, in order."""

    def __init__(self, sent: int = 0) -> None:
        self.told: list[Any] = []
        self.cmd = self.file_obj = None
        self.tot_bytes_sent, self.tot_bytes_received = sent, 0

    def transfer_in_progress(self) -> bool:
        return self.tot_bytes_sent > 0

    def get_elapsed_time(self) -> float:
        return 1.5

    def push(self, data: bytes) -> None:
        self.told.append(("push", data))

    def push_with_producer(self, producer: Any) -> None:
        self.told.append(("push_with_producer", producer))

    def close_when_done(self) -> None:
        self.told.append("close_when_done")

    def enable_receiving(self, *given: Any) -> None:
        self.told.append(("enable_receiving", *given))

    def close(self) -> None:
        self.told.append("close")


class Spy(FTPHandler):
    """A handler of the library without sockets, which tells what it says and how it ends."""

    passive_dtp = active_dtp = Port
    authorizer = Permissive()
    abstracted_fs = MemoryFS

    def __init__(self) -> None:
        super().__init__(NoSocket(), NoServer(), NoLoop())
        self.host = SimpleNamespace(files=Files(DEFAULT, None, lambda: 0.0))
        self.socket = SimpleNamespace(family=2, getsockname=lambda: ("127.0.0.1", 2121))
        self.remote_ip = "127.0.0.1"
        self.said: list[str] = []
        self.ended: list[str] = []

    def push(self, data: str) -> None:
        self.said.append(data)

    def push_with_producer(self, producer: Any) -> None:
        self.said.append(b"".join(iter(producer.more, b"")).decode())

    def respond(self, resp: str, logfun: object = None) -> None:
        self.said.append(resp)

    def close_when_done(self) -> None:
        self.ended.append("close_when_done")

    def del_channel(self, *_: Any) -> None:
        self.ended.append("del_channel")

    def say(self, line: str) -> list[str]:
        """The replies to a command."""
        before = len(self.said)
        verb, _, argument = line.partition(" ")
        self.pre_process_command(line, verb, argument)
        return self.said[before:]


@pytest.fixture
def spy() -> Spy:
    made = Spy()
    made.username = "ann"
    made.handle_auth_success("/", "", "Login successful.")
    made.said.clear()
    return made


def test_the_version_that_was_looked_into():
    assert pyftpdlib.__ver__.startswith("2.2.")


# ---- the state that sessions are copied from -----------------------------------------------------


SHARED_AND_NEVER_CHANGED = {
    "_available_facts", "_current_facts", "_extra_feats", "_log_debug", "server", "started", "terminator",
    # of the sockets and loops that are not used
    "_closed", "_closing", "_current_io_events", "_fileno", "_idler", "_in_buffer", "_in_buffer_len", "_map", "_tasks",
    "_wanted_io_events", "ac_in_buffer", "addr", "connected", "incoming", "ioloop", "producer_fifo", "socket",
}  # fmt: skip
PLAIN_VALUES = {
    "_current_type": "a", "_dtp_acceptor": None, "_dtp_connector": None, "_epsvall": False, "_in_dtp_queue": None, "_last_response": "",
    "_out_dtp_queue": None, "_quit_pending": False, "_restart_position": 0, "_rnfr": None, "attempted_logins": 0, "authenticated": False,
    "data_channel": None, "fs": None, "password": "", "remote_ip": "", "remote_port": 0, "username": "",
}  # fmt: skip


def test_init_makes_state_and_nothing_else():
    """A new name here may be shared by all sessions, and need one of its own."""
    made = vars(FTPHandler(NoSocket(), NoServer(), NoLoop()))
    assert set(made) == SHARED_AND_NEVER_CHANGED | set(PLAIN_VALUES)
    assert {name: made[name] for name in PLAIN_VALUES} == PLAIN_VALUES


def test_init_leaves_nothing_of_itself_in_the_process():
    import asyncore

    before = logging.getLogger().handlers[:], dict(asyncore.socket_map)
    FTPHandler(NoSocket(), NoServer(), NoLoop())
    assert (logging.getLogger().handlers, asyncore.socket_map) == before


def test_what_is_shared_is_replaced_and_not_changed(spy):
    shared = {name: getattr(spy, name) for name in SHARED_AND_NEVER_CHANGED}
    copies = {name: list(value) for name, value in shared.items() if isinstance(value, list)}
    assert {"_current_facts", "_available_facts", "_extra_feats"} <= set(copies)
    for verb in PLAIN_COMMANDS:
        spy.say(verb)
        spy.say(f"{verb} size;")
        spy.username, spy.authenticated = "ann", True  # whatever the command was
    assert spy.say("OPTS MLST size;") == ["200 MLST OPTS size;"]
    assert spy._current_facts == ["size"]
    assert {name: shared[name] for name in copies} == copies


def test_no_state_hides_a_method_of_ours():
    mine = FTPSession.__mro__[: FTPSession.__mro__.index(BegunHandler)]
    methods = {
        name for cls in mine for name, value in vars(cls).items() if callable(value) or isinstance(value, property)
    }
    assert not methods & set(begun())


def test_what_we_override_is_what_we_mean_to():
    """No name of ours stands in the way of one of theirs by accident."""
    mine = FTPSession.__mro__[: FTPSession.__mro__.index(BegunHandler)]
    ours = {name for cls in mine for name in vars(cls) if hasattr(FTPHandler, name) and not name.startswith("__")}
    assert ours == {
        # its replies, its end, its sockets, its log
        "push", "push_with_producer", "respond", "respond_w_warning", "close", "close_when_done", "add_channel", "del_channel", "log", "log_cmd",
        "pre_process_command", "process_command",
        "logline", "timeout",
        # its parts
        "abstracted_fs", "active_dtp", "authorizer", "passive_dtp",
        # its commands
        "flush_account", "ftp_ABOR", "ftp_CWD", "ftp_LIST", "ftp_MFMT", "ftp_NLST", "ftp_PASV", "ftp_QUIT", "ftp_REIN", "ftp_TYPE", "_make_epasv", "_on_dtp_close",
    }  # fmt: skip


def test_our_attributes_are_none_of_its_state():
    """What a session of ours remembers is not what the library means by the same name."""
    mine = FTPSession.__mro__[: FTPSession.__mro__.index(BegunHandler)]
    ours = {name for cls in mine for name in (*vars(cls), *inspect.get_annotations(cls))}
    of_theirs = {
        "socket",
        "username",
        "remote_ip",
        "remote_port",
        "_dtp_acceptor",
        "_dtp_connector",
        "_out_dtp_queue",
        "_in_dtp_queue",
        "data_channel",
    }
    assert ours & set(PLAIN_VALUES | dict.fromkeys(SHARED_AND_NEVER_CHANGED)) == of_theirs


def test_of_its_methods_we_have_all_that_its_parts_are_asked_for():
    """`DataConnection` and the ports stand for DTPHandler, PassiveDTP and ActiveDTP, as far as control.py uses them."""
    asked = {name for name in vars(Channel) if not name.startswith("__")} | {"handle_error"}
    assert asked <= set(dir(DataConnection))
    source = inspect.getsource(inspect.getmodule(FTPHandler))
    used = {part.split("(")[0].split()[0].rstrip(".,:)") for part in source.split("self.data_channel.")[1:]}
    assert used <= asked | {
        "tot_bytes_sent",
        "tot_bytes_received",
        "file_obj",
        "cmd",
        "receive",
        "get_transmitted_bytes",
    }
    for port in (PassivePort, ActivePort):
        assert callable(port.close)


# ---- commands ------------------------------------------------------------------------------------


def test_proto_cmds_is_the_table_of_commands(spy):
    assert FTPHandler.proto_cmds is PLAIN_COMMANDS
    assert set(TLS_COMMANDS) - set(PLAIN_COMMANDS) == {"AUTH", "PBSZ", "PROT"}
    assert all({"perm", "auth", "arg", "help"} == set(entry) for entry in TLS_COMMANDS.values())
    spy.proto_cmds = TLS_COMMANDS
    assert "PBSZ" in "".join(spy.say("HELP"))


def test_pre_process_command_checks_and_calls_the_method(spy):
    called = []

    class Deaf(Spy):
        def ftp_SIZE(self, path: str) -> None:
            called.append(path)

    deaf = Deaf()
    assert deaf.say("SIZE x") == ["530 Log in with USER and PASS first."]
    deaf.username = "ann"
    deaf.handle_auth_success("/", "", "")
    assert deaf.say("SIZE")[-1] == "501 Syntax error: command needs an argument."
    assert deaf.say("PWD x")[-1] == "501 Syntax error: command does not accept arguments."
    assert deaf.say("XYZ") == ['500 Command "XYZ" not understood.']
    deaf.say("SIZE a/../b")
    assert called == ["/b"]


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("commands", [PLAIN_COMMANDS, TLS_COMMANDS])
def test_pre_process_command_of_ours_does_the_same(commands, authenticated):
    class Told(FTPSession):
        def respond(self, resp: str, logfun: object = None) -> None:
            self.told.append(resp)

    for name in METHODS.values():
        setattr(Told, name, lambda self, *given, _name=name, **more: self.told.append((_name, given, more)))

    for verb, argument in itertools.product((*TLS_COMMANDS, "XYZ"), ("", "x", "1 x")):
        told = []
        for check in (FTPHandler.pre_process_command, FTPSession.pre_process_command):
            made = Told.__new__(Told)
            made.host, made.told = SimpleNamespace(files=Files(DEFAULT, None, lambda: 0.0)), []
            made.proto_cmds, made.authenticated, made.fs = commands, authenticated, MemoryFS("/", made)
            check(made, f"{verb} {argument}", verb, argument)
            told.append(made.told)
        assert told[0] == told[1] != [], (verb, argument)


def test_pre_process_command_asks_whether_a_path_is_valid(spy):
    assert spy.say("SIZE a\rb")[0].startswith("550 '/a\\rb' points to a path which is outside")
    assert spy.say("STOU a\rb") == ["450 Invalid file name."]  # here it does not, so mkstemp does


def test_every_reply_goes_through_push_or_respond(spy):
    """There is no socket to send on: what else it tried would fail."""
    for verb in sorted(PLAIN_COMMANDS):
        for line in (verb, f"{verb} small.txt", f"{verb} 1"):
            made = Spy()
            made.username = "ann"
            made.handle_auth_success("/", "", "")
            replies = made.say(line)
            assert replies or made._dtp_acceptor is not None, line  # a port announces itself
            assert made.said[-1][:3].isdigit()


def test_handle_auth_success_logs_in():
    spy = Spy()
    spy.username = "ann"
    spy.handle_auth_success("/", "secret", "Login successful.")
    assert spy.said == ["230 Login successful."]
    assert spy.authenticated
    assert isinstance(spy.fs, MemoryFS)
    assert (spy.fs.root, spy.fs.cwd) == ("/", "/")
    assert spy.fs.cmd_channel is FTPHandler  # see `MemoryFS`


def test_flush_account_logs_out(spy):
    spy.say("TYPE I")
    spy.say("REST 5")
    spy._dtp_acceptor = acceptor = Port()
    spy.flush_account()
    assert (spy.authenticated, spy.username, spy._current_type, spy._restart_position) == (False, "", "a", 0)
    assert acceptor.closed
    for line in ("REIN", "USER x"):
        flushed = []

        class Flushing(Spy):
            def flush_account(self) -> None:
                flushed.append(line)  # noqa: B023 (called at once)

        made = Flushing()
        made.authenticated = True
        made.say(line)
        assert flushed == [line]


def test_extra_feats_are_in_feat(spy):
    spy._extra_feats = ["AUTH TLS"]
    assert " AUTH TLS\r\n" in "".join(spy.say("FEAT"))


# ---- data connections ----------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "extended"), [("PASV", False), ("EPSV", True)])
def test_make_epasv_opens_a_port(spy, line, extended):
    old = spy._dtp_acceptor = Port()
    spy.data_channel = channel = Channel()
    assert spy.say(line) == []
    assert old.closed
    assert channel.told == ["close"]
    assert spy._dtp_acceptor.given == (spy, extended)
    assert spy.data_channel is None

    class Stopped(Spy):
        def _make_epasv(self, extmode: bool = False) -> None:
            self.said.append(f"{extmode}")

    stopped = Stopped()
    stopped.authenticated = True
    assert stopped.say(line) == [f"{extended}"]


@pytest.mark.parametrize("line", ["PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|51201|"])
def test_make_eport_remembers_a_port_of_the_client(spy, line):
    assert spy.say(line) == []
    assert spy._dtp_connector.given == ("127.0.0.1", 51_201, spy)


@pytest.mark.parametrize(
    "line", ["PORT 127,0,0,2,200,1", "EPRT |1|127.0.0.2|51201|", "PORT 127,0,0,1,0,80", "EPRT |1|127.0.0.1|80|"]
)
def test_make_eport_refuses_others_and_privileged_ports(spy, line):
    assert spy.say(line)[0].startswith("501 ")
    assert spy._dtp_connector is None


def test_shutdown_connecting_dtp_closes_both(spy):
    acceptor = spy._dtp_acceptor = Port()
    connector = spy._dtp_connector = Port()
    spy._shutdown_connecting_dtp()
    assert (acceptor.closed, connector.closed) == (True, True)
    assert (spy._dtp_acceptor, spy._dtp_connector) == (None, None)


class TestQueues:
    """What a transfer needs a data connection for waits in a queue, or begins at once where there is one."""

    @pytest.mark.parametrize(
        ("line", "kind"),
        [("RETR small.txt", FileProducer), ("LIST", BufferedIteratorProducer), ("MLSD", BufferedIteratorProducer)],
    )
    def test_out(self, spy, line, kind):
        assert spy.say(line) == ["150 File status okay. About to open data connection."]
        data, is_producer, file, cmd = spy._out_dtp_queue
        assert isinstance(data, kind)
        assert is_producer
        assert cmd == line[:4]
        assert (file is not None) == (cmd == "RETR")
        spy.data_channel = channel = Channel()
        spy._on_dtp_connection()
        assert channel.told == [("push_with_producer", data), "close_when_done"]
        assert (channel.cmd, channel.file_obj) == (cmd, file)
        assert spy._out_dtp_queue is None

    def test_out_as_bytes(self, spy):
        spy.say("NLST")
        spy.data_channel = channel = Channel()
        spy._on_dtp_connection()
        assert channel.told == [("push", b"big.bin\r\nsmall.txt\r\n"), "close_when_done"]

    def test_out_at_once(self, spy):
        spy.data_channel = channel = Channel()
        assert spy.say("RETR small.txt") == ["125 Data connection already open. Transfer starting."]
        assert [told[0] for told in channel.told[:1]] == ["push_with_producer"]
        assert channel.told[-1] == "close_when_done"
        assert (channel.cmd, channel.file_obj.name) == ("RETR", "/small.txt")
        assert spy._out_dtp_queue is None

    @pytest.mark.parametrize("line", ["STOR x", "APPE x", "STOU"])
    def test_in(self, spy, line):
        assert spy.say(line)[0].startswith("150 ")
        file, cmd = spy._in_dtp_queue
        assert cmd == line[:4]
        spy.data_channel = channel = Channel()
        spy._on_dtp_connection()
        assert channel.told == [("enable_receiving", "a", cmd)]
        assert channel.file_obj is file
        assert spy._in_dtp_queue is None

    @pytest.mark.parametrize("line", ["STOR x", "APPE x", "STOU"])
    def test_in_at_once(self, spy, line):
        spy.say("TYPE I")
        spy.data_channel = channel = Channel()
        assert spy.say(line)[0].startswith("125 ")
        assert channel.told == [("enable_receiving", "i", line[:4])]
        assert channel.file_obj is not None

    def test_what_cannot_be_opened_is_told_and_queues_nothing(self, spy):
        for line in ("RETR nowhere", "STOR no/such", "LIST nowhere", "MLSD small.txt", "STOU no/such"):
            assert spy.say(line)[0][0] in "45"
        assert (spy._in_dtp_queue, spy._out_dtp_queue) == (None, None)

    def test_one_that_comes_closes_the_port(self, spy):
        acceptor = spy._dtp_acceptor = Port()
        spy.data_channel = Channel()
        spy._on_dtp_connection()
        assert acceptor.closed
        assert spy._dtp_acceptor is None


def test_restart_position_is_set_by_rest_and_used_once(spy):
    spy.say("TYPE I")
    spy.say("REST 3")
    assert spy._restart_position == 3
    spy.say("RETR small.txt")
    assert spy._restart_position == 0
    assert spy._out_dtp_queue[2].position == 3


def test_a_refused_restart_closes_the_file(spy):
    spy.say("TYPE I")
    spy.say("REST 100")
    assert spy.say("STOR small.txt") == ["554 REST position (100) > file size (14)"]
    assert spy.host.files.partial == ()


def test_quit_ends_when_all_is_said(spy):
    assert spy.say("QUIT") == ["221 Goodbye."]
    assert spy.ended == ["close_when_done"]
    assert not spy._quit_pending


def test_quit_waits_for_a_transfer(spy):
    spy.data_channel = Channel(sent=1)
    assert spy.say("QUIT") == ["221 Goodbye."]
    assert spy._quit_pending
    assert spy.ended == ["del_channel"]


@pytest.mark.parametrize(
    ("sent", "replies"),
    [
        (1, ["426 Transfer aborted via ABOR.", "226 ABOR command successful."]),
        (0, ["225 ABOR command successful; data channel closed."]),
    ],
)
def test_abor_asks_whether_something_is_in_progress(spy, sent, replies):
    spy.data_channel = channel = Channel(sent)
    assert spy.say("ABOR") == replies
    assert channel.told == ["close"]
    assert spy.data_channel is None


def test_stat_asks_the_data_connection(spy):
    spy.data_channel = Channel(sent=42)
    assert " Total bytes sent: 42\r\n" in "".join(spy.say("STAT"))


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_producer_says_what_it_reads_and_how():
    file = io.BytesIO(b"one\ntwo\r\n")
    binary, text = FileProducer(file, "i"), FileProducer(io.BytesIO(b"one\ntwo\r\n"), "a")
    assert (binary.type, binary.file, text.type) == ("i", file, "a")
    assert b"".join(iter(text.more, b"")) == b"one\r\ntwo\r\n"
    assert binary.more() == b"one\ntwo\r\n"
    assert binary.more() == b""


def test_a_filesystem_error_is_told_in_its_words(spy):
    class Full(MemoryFS):
        def mkdir(self, path: str) -> None:
            raise FilesystemError("Disc is full")

    spy.fs = Full("/", spy)
    assert spy.say("MKD x") == ["550 Disc is full."]


def test_of_its_filesystem_nothing_reaches_the_disc():
    """Whatever of AbstractedFS would call the operating system is ours, or nobody calls it."""
    theirs = {name for name in vars(AbstractedFS) if not name.startswith("__")}
    assert theirs - set(vars(MemoryFS)) == {"cwd", "root", "listdirinfo", "_isabs"}
    assert "listdirinfo" not in inspect.getsource(inspect.getmodule(FTPHandler))


def test_the_authorizer_is_asked_for_nothing_else():
    source = inspect.getsource(inspect.getmodule(FTPHandler))
    asked = {part.split("(")[0] for part in source.split("self.authorizer.")[1:]}
    of_pass = {"validate_authentication", "get_home_dir", "get_msg_login"}  # PASS is ours
    assert asked - of_pass == {name for name in vars(Permissive) if not name.startswith("__")}
