"""What the first fake of a process imports: its adapter's library, and nothing that only other uses need."""

from __future__ import annotations

import subprocess
import sys

import pytest

OURS = {"notnow", "msgspec", "typing_extensions"}  # the last is msgspec's
LIBRARIES = {
    "SMTP": {"aiosmtpd", "attr", "public"},
    "FTP": {"pyftpdlib", "asyncore", "asynchat"},  # the last two were in the standard library up to Python 3.11
    "HTTP": {"h2", "hpack", "hyperframe", "h11", "hypercorn", "priority", "wsproto"},
}
LATE = {
    "difflib",
    "html",
    "http",
    "json",
    "lzma",
    "multiprocessing",
    "shutil",
    "sqlite3",
    "tempfile",
    "unittest",
    "xml",
}
OF_LIBRARIES = {
    "SMTP": set[str](),
    "FTP": {"lzma", "shutil", "tempfile"},
    "HTTP": {"http", "json", "lzma", "multiprocessing", "shutil", "tempfile"},
}
LATE_OF_OURS = (
    "chaos", "cli", "conduct.expected", "conduct.judging", "conduct.pictures", "conduct.rules", "control",
    "journal.transport", "language.schema", "look", "page", "time_travel",
)  # fmt: skip

CODE = """
import sys
before = set(sys.modules)
from notnow import Fake{0}
with Fake{0}():
    print(*sorted(sys.modules.keys() - before))
"""


def imported(protocol: str) -> list[str]:
    """The modules that a process imports for its first fake, until that listens."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(protocol)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


@pytest.mark.parametrize("protocol", sorted(LIBRARIES))
def test_the_first_fake_imports_only_what_it_needs(protocol: str) -> None:
    modules = imported(protocol)
    names = {module.partition(".")[0] for module in modules}
    foreign = {name for name in names - sys.stdlib_module_names if not name.startswith("_")}
    assert foreign <= OURS | LIBRARIES[protocol]
    assert names & LATE <= OF_LIBRARIES[protocol]
    late = LATE_OF_OURS + tuple(f"servers.{other.lower()}" for other in LIBRARIES if other != protocol)
    assert [module for module in modules if module.startswith(tuple(f"notnow.{name}" for name in late))] == []
    assert f"notnow.servers.{protocol.lower()}.fake" in modules
