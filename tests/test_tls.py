"""TLS as clients meet it: certificates right and wrong, alerts, SNI, and handshakes that fail."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from notnow import FakeSMTP, ManualClock
from notnow.journal import AlertReceived, CertificateRejected, HandshakeAbandoned
from notnow.servers.base import tls
from notnow.servers.base.tls import Shown, choose, context, covers
from smtp_client import Raw, one, rules, then, trusting

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 4.3.2 Not now, says the test"
both = pytest.mark.parametrize("mode", ["starttls", "implicit"])


def secured(fake: FakeSMTP, context: ssl.SSLContext, name: str | None = "localhost") -> Raw:
    """A client in TLS, whichever way this fake begins it."""
    raw = Raw(fake)
    try:
        if fake.tls == "implicit":
            raw.wrap(context, name)
        else:
            raw.hello().starttls(context, name)
            raw.send("EHLO x\r\n")
            raw.reply()
    except BaseException:
        raw.close()
        raise
    return raw


def late_alert(keylog: Path, code: int) -> bytes:
    """A record of TLS 1.3 with a fatal alert, the first one of a client after the handshake (RFC 8446 §5.2, §7.3).

    Python's `ssl` cannot send one. Clients can that check the certificate when the handshake is over, as GnuTLS's do.
    """
    secret = next(
        line.split()[2] for line in keylog.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0")
    )

    def derived(label: bytes, size: int) -> bytes:
        info = struct.pack("!HB", size, len(label) + 6) + b"tls13 " + label + b"\0"
        return HKDFExpand(SHA384(), size, info).derive(bytes.fromhex(secret))

    head = b"\x17\x03\x03" + struct.pack("!H", 3 + 16)
    return head + AESGCM(derived(b"key", 32)).encrypt(derived(b"iv", 12), bytes([2, code, 21]), head)


def the_only_connection(fake: FakeSMTP):
    fake.wait_for(lambda j: j.connections and j.connections[0].ended_by)
    return fake.journal.connections[0]


class TestHandshake:
    @both
    def test_version_sni_and_certificate_are_in_the_journal(self, mode):
        with FakeSMTP(tls=mode) as fake, secured(fake, trusting(fake)) as raw:
            assert raw.say("NOOP")[0] == "2"
            facts = fake.journal.connections[0].tls
            assert (facts.version, facts.sni, facts.certificate, facts.error) == (
                "TLSv1.3",
                "localhost",
                "default",
                None,
            )

    @both
    def test_an_older_version(self, mode):
        with FakeSMTP(tls=mode) as fake:
            old = trusting(fake)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with secured(fake, old) as raw:
                assert raw.say("NOOP")[0] == "2"
            assert fake.journal.connections[0].tls.version == "TLSv1.2"

    @both
    def test_without_sni(self, mode):
        with FakeSMTP(tls=mode) as fake, secured(fake, trusting(fake), "127.0.0.1") as raw:
            assert raw.say("NOOP")[0] == "2"
            assert fake.journal.connections[0].tls.sni is None

    @both
    def test_any_name_is_covered_where_the_scenario_has_no_certificates(self, mode):
        with FakeSMTP(tls=mode) as fake:
            for name in ("mx.example.com", "fake.notnow.test", "xn--mnchen-3ya.example"):
                with secured(fake, trusting(fake), name) as raw:
                    assert raw.say("NOOP")[0] == "2"
            assert fake.journal.connections[0].tls.sni == "mx.example.com"

    @both
    def test_a_name_that_no_certificate_can_have_breaks_nothing(self, mode):
        loose = ssl.create_default_context()
        loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
        with FakeSMTP(tls=mode) as fake:
            for name in ("under_score.example", "-.example", "sp ace.example", "a@b.example", "*.example"):
                with secured(fake, loose, name) as raw:
                    assert raw.say("NOOP")[0] == "2"

    @both
    def test_no_421_is_lost_in_tls(self, mode):
        with FakeSMTP(rules(one("noop", reply=NO)), tls=mode) as fake, secured(fake, trusting(fake)) as raw:
            raw.send("NOOP\r\n")
            assert raw.until_end().endswith(f"{NO}\r\n")

    @both
    @pytest.mark.parametrize("close", ["reset", "abrupt"])
    def test_a_close_within_tls(self, mode, close):
        with FakeSMTP(rules(one("noop", close=close)), tls=mode) as fake, secured(fake, trusting(fake)) as raw:
            if mode == "implicit":
                assert raw.reply().startswith("220")
            raw.send("NOOP\r\n")
            if close == "reset":  # OpenSSL tells Python of an end; below it there is a reset
                with socket.socket(fileno=os.dup(raw.sock.fileno())) as below, pytest.raises(ConnectionResetError):
                    below.settimeout(10)
                    below.recv(1)
            else:  # and no goodbye of TLS, for which a peer would have to be waited for
                raw.sock.suppress_ragged_eofs = False
                with pytest.raises(ssl.SSLEOFError):
                    raw.until_end()
            assert fake.journal.connections[0].ended_by == "fake"

    def test_what_was_piped_in_before_tls_is_thrown_away(self):
        """RFC 3207 §5, and the STARTTLS command injection of 2011."""
        with FakeSMTP(tls="starttls") as fake, Raw(fake).hello() as raw:
            raw.send("STARTTLS\r\nMAIL FROM:<evil@client.test>\r\n")
            assert raw.reply().startswith("220")
            raw.wrap(trusting(fake))
            assert raw.say("NOOP") == "250 2.0.0 Ok"
            assert "evil" not in str(list(fake.journal.as_dicts()))

    def test_starttls_with_an_argument(self):
        with FakeSMTP(tls="starttls") as fake, Raw(fake).hello() as raw:
            assert raw.say("STARTTLS now").startswith("501")
            assert raw.say("NOOP").startswith("250")


class TestImplicit:
    def test_a_421_at_connect_waits_for_tls(self):
        with FakeSMTP(rules(one("connect", reply=NO)), tls="implicit") as fake, Raw(fake) as raw:
            fake.wait_for(lambda j: j.connections)
            fake.settle()
            assert raw.silent()
            raw.wrap(trusting(fake))
            assert raw.until_end() == f"{NO}\r\n"

    @pytest.mark.parametrize("close", [True, "abrupt", "reset"])
    def test_a_bare_close_at_connect_does_not(self, close):
        with FakeSMTP(rules(one("connect", close=close)), tls="implicit") as fake:
            if close == "reset":
                with pytest.raises(ConnectionResetError), Raw(fake) as raw:
                    raw.until_end()
            else:
                with Raw(fake) as raw:
                    assert raw.until_end() == ""
            assert the_only_connection(fake).tls is None

    def test_plain_text_where_tls_should_be(self):
        with FakeSMTP("smtp/plain-on-tls-port") as fake:
            with Raw(fake) as raw:
                raw.send("EHLO x\r\n")
                with pytest.raises((EOFError, ConnectionResetError)):
                    raw.reply()
            connection = the_only_connection(fake)
            assert connection.error.startswith("TLS handshake failed")
            assert connection.tls.error
            assert connection.ended_by == "fake"
            with secured(fake, trusting(fake)) as raw:
                assert raw.hello().deliver().startswith("250")

    def test_who_leaves_before_the_handshake(self):
        with FakeSMTP(tls="implicit") as fake:
            Raw(fake).close()
            assert the_only_connection(fake).ended_by == "client"

    def test_a_phase_that_ends_amid_a_handshake_ends_the_connection(self):
        with FakeSMTP(rules(then("down", one("enter", reply=NO))), tls="implicit") as fake, Raw(fake) as raw:
            fake.wait_for(lambda j: j.connections)
            fake.next_phase()
            assert raw.until_end() == ""
            connection = the_only_connection(fake)
            assert connection.ended_by == "fake"
            assert connection.exchanges[-1].reply is None  # nothing could be said


class TestFailures:
    @both
    def test_a_client_that_does_not_trust_us(self, mode):
        with FakeSMTP(tls=mode) as fake:
            with pytest.raises(ssl.SSLCertVerificationError):
                secured(fake, ssl.create_default_context())
            connection = the_only_connection(fake)
            assert "UNKNOWN_CA" in connection.tls.error
            assert connection.failure == CertificateRejected("unknown_ca")
            assert connection.exchanges[-1].told == (
                "220 2.0.0 Ready to start TLS" if mode == "starttls" else connection.error
            )
            assert (connection.tls.sni, connection.tls.trusted) == ("localhost", True)
            assert connection.ended_by == "client"

    @both
    def test_a_client_that_does_not_trust_us_in_an_older_version(self, mode):
        with FakeSMTP(tls=mode) as fake:
            old = ssl.create_default_context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLCertVerificationError):
                secured(fake, old)
            assert the_only_connection(fake).failure == CertificateRejected("unknown_ca")

    @both
    @pytest.mark.parametrize(
        ("code", "failure"),
        [(46, CertificateRejected("certificate_unknown")), (80, AlertReceived("internal_error"))],
    )
    def test_an_alert_after_the_handshake(self, mode, code, failure, tmp_path):
        with FakeSMTP(tls=mode) as fake, Raw(fake) as raw:
            context = trusting(fake)
            context.keylog_filename = str(tmp_path / "keys")
            raw.wrap(context, "localhost") if mode == "implicit" else raw.hello().starttls(context)
            with socket.socket(fileno=os.dup(raw.sock.fileno())) as below:
                below.sendall(late_alert(tmp_path / "keys", code))
            assert the_only_connection(fake).failure == failure

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("how", ["close", "unwrap", "reset"])
    def test_a_client_that_leaves_right_after_the_handshake(self, how, version):
        with FakeSMTP(tls="implicit") as fake:
            context = trusting(fake)
            context.minimum_version = context.maximum_version = version
            with Raw(fake) as raw:
                raw.wrap(context, "localhost")
                raw.reply()
                if how == "reset":
                    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if how == "unwrap":
                    raw.sock.settimeout(0.2)
                    with contextlib.suppress(OSError):
                        raw.sock.unwrap()
            connection = the_only_connection(fake)
            assert (connection.failure, connection.ended_by) == (HandshakeAbandoned(done=True), "client")

    def test_a_client_that_has_said_something_has_not_left_for_the_certificate(self):
        with FakeSMTP(tls="implicit") as fake:
            with secured(fake, trusting(fake)) as raw:
                raw.hello()
            assert the_only_connection(fake).failure is None

    def test_a_client_that_waits_for_its_greeting_has_not_left_for_the_certificate(self):
        with FakeSMTP(rules(one("connect", stall=True)), tls="implicit") as fake:
            with secured(fake, trusting(fake)):
                pass
            assert not isinstance(the_only_connection(fake).failure, HandshakeAbandoned)

    @both
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_client_that_leaves_in_the_handshake(self, mode, how):
        with FakeSMTP(tls=mode) as fake:
            with Raw(fake) as raw:
                if mode == "starttls":
                    assert raw.hello().say("STARTTLS")[:3] == "220"
                raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
                if how == "reset":
                    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection = the_only_connection(fake)
            assert (connection.failure, connection.ended_by) == (HandshakeAbandoned(done=False), "client")

    @both
    def test_a_rule_refuses_with_an_alert(self, mode):
        scenario = rules(one("tls", where={"sni": "bad.test"}, alert="unrecognized_name"))
        with FakeSMTP(scenario, tls=mode) as fake:
            with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
                secured(fake, trusting(fake), "bad.test")
            connection = the_only_connection(fake)
            assert connection.tls.error == "refused with the alert unrecognized_name"
            assert connection.tls.certificate is None
            (exchange,) = [x for x in fake.journal if x.moment == "tls"]
            assert (exchange.fault, exchange.closed, exchange.request) == ("alert", True, "bad.test")
            assert connection.ended_by == "fake"
            with secured(fake, trusting(fake)) as raw:
                assert raw.say("NOOP")[0] == "2"

    @both
    def test_a_rule_closes_amid_the_handshake(self, mode):
        with FakeSMTP(rules(one("tls", close=True)), tls=mode) as fake:
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                secured(fake, trusting(fake))
            connection = the_only_connection(fake)
            assert connection.tls.error == "closed"
            assert connection.ended_by == "fake"

    @both
    def test_a_rule_resets_amid_the_handshake(self, mode):
        with FakeSMTP(rules(one("tls", close="reset")), tls=mode) as fake:
            with pytest.raises(ConnectionResetError):
                secured(fake, trusting(fake))
            assert the_only_connection(fake).ended_by == "fake"

    @both
    def test_our_own_bug_amid_a_handshake_is_told(self, mode, monkeypatch):
        fake = FakeSMTP(tls=mode).start()
        monkeypatch.setattr(fake._bridge, "certificate_for", lambda *_: 1 / 0)
        monkeypatch.setattr(fake._bridge, "tls_context", lambda: context(Shown(("localhost",))))
        with pytest.raises((ssl.SSLError, OSError)):
            secured(fake, trusting(fake))
        with pytest.raises(Exception, match="ZeroDivisionError"):
            fake.stop()

    @both
    def test_a_stop_amid_a_handshake_is_quick_and_clean(self, mode):
        with FakeSMTP(tls=mode) as fake:
            raw = Raw(fake)
            if mode == "starttls":
                assert raw.hello().say("STARTTLS").startswith("220")
            else:
                fake.wait_for(lambda j: j.connections)
            raw.send(b"\x16\x03\x01")  # the beginning of a ClientHello
            fake.settle()
        with raw:
            assert raw.until_end() == ""
        assert fake.journal.connections[0].ended_by


class TestCertificates:
    """What is wrong with a certificate is really so, for a client that looks."""

    NAMES = 'names = ["localhost", "127.0.0.1"]'

    def fails_with(
        self, certificate: str, message: str, mode: str, alert: str, *defects: str, name: str = "localhost"
    ) -> None:
        with FakeSMTP(rules(head=f"[certificate.c]\n{certificate}"), tls=mode) as fake:
            with pytest.raises(ssl.SSLCertVerificationError, match=message):
                secured(fake, trusting(fake), name)
            connection = the_only_connection(fake)
            assert connection.failure == CertificateRejected(alert)
            assert (connection.tls.certificate, connection.tls.defects) == ("c", defects)
            assert connection.tls.trusted is not bool(defects)

    @both
    def test_expired(self, mode):
        self.fails_with(
            f"{self.NAMES}\nexpired = true", "certificate has expired", mode, "certificate_expired", "expired"
        )

    @both
    def test_untrusted(self, mode):
        self.fails_with(
            f"{self.NAMES}\nuntrusted = true", "unable to get local issuer|self-signed", mode, "unknown_ca", "untrusted"
        )

    @both
    def test_wrong_name(self, mode):
        self.fails_with('names = ["other.example"]', "Hostname mismatch", mode, "bad_certificate", "name")

    @both
    def test_wrong_address(self, mode):
        self.fails_with('names = ["localhost"]', "IP address mismatch", mode, "bad_certificate", name="127.0.0.1")

    @both
    def test_incomplete_chain(self, mode):
        self.fails_with(
            f"{self.NAMES}\nincomplete = true", "unable to get local issuer", mode, "unknown_ca", "incomplete"
        )

    def test_the_incomplete_one_is_good_for_who_has_the_intermediate(self, tmp_path):
        head = f"[certificate.c]\n{self.NAMES}\nincomplete = true"
        intermediate = tls._intermediate(True).cert_pem
        path = tmp_path / "intermediate.pem"
        intermediate.write_to_path(str(path))
        with FakeSMTP(rules(head=head), tls="implicit") as fake:
            knowing = trusting(fake)
            knowing.load_verify_locations(str(path))
            with secured(fake, knowing) as raw:
                assert raw.reply().startswith("220")

    @both
    def test_the_first_that_covers_the_sni_is_shown_else_the_first(self, mode):
        head = '[certificate.one]\nnames = ["one.test"]\n[certificate.two]\nnames = ["*.two.test"]\n[certificate.three]\nnames = ["mx.two.test"]'
        with FakeSMTP(rules(head=head), tls=mode) as fake:
            for name in ("one.test", "mx.two.test"):
                with secured(fake, trusting(fake), name) as raw:
                    assert raw.say("NOOP")[0] == "2"
            with pytest.raises(ssl.SSLCertVerificationError):
                secured(fake, trusting(fake), "elsewhere.test")
            assert [c.tls.certificate for c in fake.journal.connections] == ["one", "two", "one"]

    @both
    def test_a_rule_shows_another_and_phases_change_it(self, mode):
        head = f"[certificate.right]\n{self.NAMES}\n[certificate.late]\n{self.NAMES}\nexpired = true"
        scenario = rules(one("tls", certificate="late"), then("recovered"), head=head, phase='lasts = "30s"')
        with FakeSMTP(scenario, tls=mode, clock=ManualClock()) as fake:
            with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                secured(fake, trusting(fake))
            fake.clock.advance("30s")
            with secured(fake, trusting(fake)) as raw:
                assert raw.say("NOOP")[0] == "2"
            (exchange,) = [x for x in fake.journal if x.moment == "tls"]
            assert (exchange.fault, exchange.closed) == ("certificate", False)
            assert [c.tls.certificate for c in fake.journal.connections] == ["late", "right"]

    def test_names_with_letters_of_other_scripts(self):
        with FakeSMTP(rules(head='[certificate.c]\nnames = ["münchen.example"]'), tls="implicit") as fake:
            with secured(fake, trusting(fake), "münchen.example") as raw:
                assert raw.reply().startswith("220")


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (["a.test"], "a.test", True),
        (["A.test"], "a.TEST.", True),
        (["*.test"], "a.test", True),
        (["*.test"], "a.b.test", False),
        (["*.test"], "test", False),
        (["a.test"], "b.test", False),
        (["127.0.0.1"], "127.0.0.1", True),
        ([], "a.test", False),
    ],
)
def test_covers(names, host, good):
    assert covers(names, host) is good


def test_choose_without_certificates_covers_the_server_and_what_was_asked_for():
    assert choose({}, None, "mx.test", ("localhost",)) == ("default", Shown(("localhost", "mx.test")))
    assert choose({}, None, "localhost", ("localhost",)) == ("default", Shown(("localhost",)))


def test_one_authority_a_process_whoever_asks_first():
    """Threads that ask at once get the same CA: a client would not trust the fake otherwise."""
    code = """
import threading
from notnow.servers.base import tls
gate, found = threading.Barrier(8), []
def ask(n):
    gate.wait()
    found.append(open(tls.ca_file()).read() if n % 2 else tls._authority(True).cert_pem.bytes().decode())
threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(set(found)) == 1, len(set(found))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


ON_DISK = "from notnow.servers.base import tls; tls._in_memory = lambda content: None; "  # where there is no memfd
ASK = "from notnow.servers.base import tls; "


def run_to_the_end(code: str, folder: Path, by: signal.Signals | None = None) -> str:
    """The path of the CA file that a process had, whose temporary directory is this; `by` is the signal that ends it."""
    code += "print(tls.ca_file(), flush=True); input()"
    env = {**os.environ, "TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, env=env) as process:
        path = process.stdout.readline().strip()
        # Another process of this user can read it.
        assert "BEGIN CERTIFICATE" in subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout
        if by is not None:
            process.send_signal(by)
        process.communicate("\n", timeout=60)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="a file in memory is Linux's")
@pytest.mark.parametrize("by", [None, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_the_ca_file_goes_with_the_process_however_that_ends(by, tmp_path):
    path = run_to_the_end(ASK, tmp_path, by)
    assert not Path(path).exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="nobody can be asked there whether a process lives")
def test_a_directory_of_a_killed_process_goes_when_the_next_one_begins(tmp_path):
    left = Path(run_to_the_end(ON_DISK, tmp_path, signal.SIGKILL))
    assert left.exists()
    (tmp_path / "notnow-mine").mkdir()  # somebody else's, whose name begins alike
    (tmp_path / f"notnow-{os.getpid()}-x").mkdir()  # of a process that lives
    run_to_the_end(ON_DISK, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notnow-mine", f"notnow-{os.getpid()}-x"}


@pytest.mark.skipif(sys.platform != "linux", reason="a file in memory is Linux's")
@pytest.mark.parametrize("incomplete", [True, False])
def test_a_certificate_is_loaded_without_a_file(incomplete, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))  # to make a file there fails
    tls.context(Shown((f"{incomplete}.a.test",), incomplete=incomplete))


def test_a_certificate_that_was_loaded_from_a_file_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "_in_memory", lambda _content: None)
    monkeypatch.setattr(tls, "_directory", lambda: tmp_path)
    tls.context(Shown(("on-disk.a.test",), incomplete=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_the_directory_to_its_parent():
    code = """
import os, sys
from notnow.servers.base import tls
path = tls.ca_file()
if (pid := os.fork()) == 0:
    sys.exit(0)
os.waitpid(pid, 0)
assert os.path.exists(path)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_contexts_are_made_once():
    assert context(Shown(("a.test",))) is context(Shown(("a.test",)))
    assert context(Shown(("a.test",))) is not context(Shown(("a.test",), expired=True))


def test_a_context_outside_of_any_fake_shows_its_own_certificate():
    """Contexts know nothing of fakes: one that meets no `Handshake` just does TLS."""
    server, client = socket.socketpair()
    made = context(Shown(("localhost",)))

    def serve() -> None:
        with made.wrap_socket(server, server_side=True) as conn:
            conn.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    trust = ssl.create_default_context(cafile=tls.ca_file())
    with trust.wrap_socket(client, server_hostname="localhost") as conn:
        assert conn.recv(10) == b"hello"
    thread.join()


def test_a_file_is_made_once_for_the_same_content(monkeypatch):
    made = []
    monkeypatch.setattr(
        tls, "_in_memory", lambda content: made.append(content) or (f"/proc/self/fd/{len(made)}", len(made))
    )
    paths = [tls.file_of(content) for content in (b"one CA", b"another", b"one CA")]
    assert paths == ["/proc/self/fd/1", "/proc/self/fd/2", "/proc/self/fd/1"]
