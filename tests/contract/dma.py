"""dma, the DragonFly mail agent: unpacked, not installed, as Debian has place for one mail server only.

It reads /etc/dma, and keeps its queue in /var/spool/dma. So that these are no one else's, it runs in a root directory of
its own (chroot) that has nothing but dma and its libraries. It waits five minutes before it tries again; no setting makes
that less, and under libfaketime its waits are not its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import programs
from clients import Report
from smtp_clients import SENT, Job

PATIENCE = 400  # real seconds that it gets

_CONF = "SMARTHOST {host}\nPORT {port}\nMAILNAME client.test\n"
_PASSWD = "root:x:0:0::/:/bin/false\nmail:x:8:8::/var/mail:/bin/false\n"
_FILES = {
    "etc/passwd": _PASSWD,
    "etc/group": "root:x:0:\nmail:x:8:\n",
    "etc/hosts": "127.0.0.1 localhost client.test\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/aliases": "",
    "etc/dma/auth.conf": "",
}


def send(job: Job) -> Report:
    """One message to the first recipient; dma says in its exit code that it has it, and its queue says what came of it."""
    with tempfile.TemporaryDirectory(prefix="notnow-dma-") as name:
        home = Path(name)
        _furnish(home, job)
        done = subprocess.run(
            ["chroot", name, "/usr/sbin/dma", "-D", "-f", job.sender, job.recipients[0]],
            input=job.content, capture_output=True, timeout=PATIENCE, check=False, env={"PATH": programs.PATH, "LC_ALL": "C"},
        )  # fmt: skip
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        if done.returncode:
            return Report(f"exit {done.returncode}", text)
        bounced = any((home / "var/mail").iterdir())
        return Report("bounced" if bounced else SENT, text)


def _furnish(home: Path, job: Job) -> None:
    """Its root directory."""
    for place in ("etc/dma", "var/spool/dma", "var/mail", "usr/sbin", "dev", "tmp"):
        (home / place).mkdir(parents=True)
    for path, text in {**_FILES, "etc/dma/dma.conf": _CONF.format(host=job.host, port=job.port)}.items():
        (home / path).write_text(text)
    program = shutil.which("dma", path=programs.PATH)
    assert program is not None
    shutil.copy(program, home / "usr/sbin/dma")
    (home / "dev/null").touch(0o666)
    for library in _libraries(program):
        (home / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, home / library[1:])
    home.chmod(0o755)
    for place in ("var/spool/dma", "var/mail"):
        os.chown(home / place, 8, 8)  # the user mail, as which dma runs


def _libraries(program: str) -> Sequence[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def version() -> str:
    """As it stands in the header that dma adds to mail."""
    program = shutil.which("dma", path=programs.PATH)
    found = re.search(rb"DragonFly Mail Agent v([0-9.]+)", Path(program).read_bytes()) if program else None
    return found[1].decode() if found else "unknown"


def need() -> None:
    """What its run takes besides dma itself."""
    programs.need_root("dma runs in a root directory of its own")
