"""The command line as PID 1, as it is in a container: a SIGTERM at any time ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

# A process namespace of its own, in which the program is PID 1.
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
# It sleeps in short naps: Python runs a handler between two instructions, and a signal just before a long one would wait for it.
HANGS = """
import notnow.cli, time
def group(**_):
    print("begun", flush=True)
    while True:
        time.sleep(0.01)
notnow.cli.group = group
notnow.cli.main()
"""


def may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


pytestmark = pytest.mark.skipif(not may_unshare(), reason="needs unshare, and the right to use it")


def begun(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Python as PID 1 of a namespace, below `unshare`, and the first line that it has printed."""
    parent = subprocess.Popen([*UNSHARE, sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, parent.stdout.readline()


def child_of(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return int(children.read().split()[0])


def ended(parent: subprocess.Popen[str]) -> int:
    try:
        return parent.wait(60)
    finally:
        parent.kill()
        parent.communicate()


def test_before_a_command_has_begun() -> None:
    """Nothing handles the signal yet but `main`."""
    parent, line = begun("-c", HANGS)
    assert line == "begun\n"
    os.kill(child_of(parent.pid), signal.SIGTERM)
    assert ended(parent) == 128 + signal.SIGTERM


def test_serve_stops_in_good_order() -> None:
    parent, line = begun("-m", "notnow", "serve", "smtp/healthy", "--json")
    assert json.loads(line)["event"] == "listening"
    os.kill(child_of(parent.pid), signal.SIGTERM)
    assert ended(parent) == 0
