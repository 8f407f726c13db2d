"""A Postfix of our own: a relay without a listener, with its own configuration, queue, data and log.

Of the system's Postfix only the programs are used: nothing is read from its configuration, and it is not told
to start, stop or deliver anything. Each message says in a header of its own where it is to go, so that each test
can have a fake of its own, on whatever port that is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import programs

PATIENCE = 20  # real seconds for what Postfix is told, or waited for, to do

# Seconds are real ones: a message that is deferred is tried again after two to four of them, unless told otherwise. With a back-off of
# one the queue manager may come back while the delivery agent still has the message ("skipped, still being
# delivered"), and then it does not come again.
_MAIN = """\
compatibility_level = 3.6
myhostname = relay.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/log/maillog
maillog_file_prefixes = {home}
default_transport = discard
header_checks = regexp:{home}/etc/header_checks
smtp_host_lookup = native
smtp_tls_CAfile = {home}/etc/ca.pem
queue_run_delay = 1s
minimal_backoff_time = {backoff}s
maximal_backoff_time = {longest}s
smtp_helo_timeout = 10s
"""

# Every daemon without a chroot. One `smtp` for each way of encryption, one that keeps connections open and one
# that does not wait long for a greeting.
_MASTER = """\
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
scache unix - - n - 1 scache
showq unix n - n - - showq
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
none unix - - n - - smtp
may unix - - n - - smtp -o smtp_tls_security_level=may
must unix - - n - - smtp -o smtp_tls_security_level=secure -o smtp_tls_secure_cert_match=localhost
cached unix - - n - 1 smtp -o smtp_connection_cache_destinations=regexp:{home}/etc/cached -o smtp_connection_cache_time_limit=30s
hasty unix - - n - - smtp -o smtp_helo_timeout=1s
"""

# A header that names a transport and where it is to go; what has none, such as a bounce, is discarded.
ROUTE = "X-Fake-Route"
_HEADER_CHECKS = f"/^{ROUTE}: *(.+)$/ FILTER $1\n"

_STATUS = re.compile(r"(\w+): to=<([^>]*)>,.* dsn=([0-9.]+), status=(\w+) \((.*)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """How one delivery to one recipient ended: `what` is sent, deferred or bounced, `text` why."""

    to: str
    dsn: str
    what: str
    text: str


class Postfix:
    """A running instance; `home` holds all that it reads and writes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._config = str(home / "etc")
        self._numbers = 0

    def send(self, ports: Sequence[int], recipients: Sequence[str] = ("bob@fake.test",), via: str = "none") -> str:
        """Put a message into the queue and give its Message-ID.

        It goes to the first of these ports of 127.0.0.1 that takes it. `via` is how it is encrypted (none, may,
        must), or without that `cached` or `hasty`.
        """
        self._numbers += 1
        name = f"<{self._numbers}@client.test>"
        route = f"{via}:{','.join(f'[127.0.0.1]:{port}' for port in ports)}"
        message = f"From: alice@client.test\n{ROUTE}: {route}\nMessage-ID: {name}\n\nHello, Bob.\n"
        self._run("sendmail", "-C", self._config, "-i", "-f", "alice@client.test", *recipients, input=message)
        return name

    def statuses(self, message: str) -> list[Status]:
        """What became of each delivery of this message so far, in order."""
        queued = self._queue_id(message)
        return [Status(*found.groups()[1:]) for found in _STATUS.finditer(self._log) if found[1] == queued]

    def lines(self, message: str) -> list[str]:
        """The lines of the log that name this message by its queue id."""
        queued = f" {self._queue_id(message)}: "
        return [line for line in self._log.splitlines() if queued in line]

    def wait_until_deferred(self, message: str) -> None:
        """Return when a delivery of this message has failed for now."""
        self._wait(message, lambda: any(status.what == "deferred" for status in self.statuses(message)))

    def wait_until_gone(self, message: str) -> None:
        """Return when this message has left the queue, for whatever reason."""
        self._wait(message, lambda: f" {self._queue_id(message)}: removed\n" in self._log)

    def _wait(self, message: str, condition: Callable[[], bool]) -> None:
        """A log cannot be waited on, so it is read again and again. Raises TimeoutError with what it says."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE} s in vain for {message}; so far: {self.statuses(message)}")
            time.sleep(0.02)

    @property
    def _log(self) -> str:
        return (self.home / "log" / "maillog").read_text("utf-8", "replace")

    def _queue_id(self, message: str) -> str | None:
        found = re.search(rf"(\w+): message-id={re.escape(message)}$", self._log, re.MULTILINE)
        return found[1] if found else None

    def start(self) -> None:
        self._run("postfix", "-c", self._config, "start")

    def stop(self) -> None:
        self._run("postfix", "-c", self._config, "stop")

    def _run(self, *command: str, input: str = "") -> str:
        environment = {**os.environ, "PATH": programs.PATH}
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def running(ca_file: str, backoff: int = 2) -> Iterator[Postfix]:
    """A Postfix that trusts the CA of `ca_file`; it is stopped, and all its files are gone, afterwards.

    `backoff` is the seconds before it first tries again what was deferred.
    """
    home = Path(tempfile.mkdtemp(prefix="notnow-postfix-"))
    try:
        _furnish(home, ca_file, backoff)
        postfix = Postfix(home)
        postfix.start()
        try:
            yield postfix
        finally:
            postfix.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _furnish(home: Path, ca_file: str, backoff: int) -> None:
    """pytest's own temporary directories are closed to others, and the daemons run as the user postfix."""
    home.chmod(0o755)
    for name in ("etc", "queue", "data", "log"):
        (home / name).mkdir()
    shutil.chown(home / "data", "postfix")
    shutil.copy(ca_file, home / "etc" / "ca.pem")
    for name, text in {"main.cf": _MAIN, "master.cf": _MASTER}.items():
        (home / "etc" / name).write_text(text.format(home=home, backoff=backoff, longest=backoff + 1))
    (home / "etc" / "header_checks").write_text(_HEADER_CHECKS)
    (home / "etc" / "cached").write_text("/./ yes\n")
