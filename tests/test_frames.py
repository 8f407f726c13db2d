"""Where threads stand: the look at it never hangs."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from notnow.time_travel.frames import current_frames

HANGS = """
import gc, sys, threading
from notnow.time_travel.frames import current_frames

class Garbage:
    def __init__(self):
        self.me, self.local = self, threading.local()
        self.local.x = self

def step():
    return [Garbage() for _ in range(3)]

def busy(stop):
    while not stop.is_set():
        step()

sys.setswitchinterval(1e-5)
stop = threading.Event()
threads = [threading.Thread(target=busy, args=(stop,), daemon=True) for _ in range(5)]
for t in threads: t.start()
gc.set_threshold(20)
for _ in range(3000):
    current_frames()
stop.set()
"""


def test_a_collection_amid_it_does_not_hang() -> None:
    """`sys._current_frames()` itself hangs here on Python 3.11.7 and 3.12.1."""
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=60)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_stays_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert threading.get_ident() in current_frames()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()
