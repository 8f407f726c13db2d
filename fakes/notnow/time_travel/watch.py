"""The driver's questions about threads and descriptors: does a thread work, and which process is the peer of a socket?"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import weakref
from collections.abc import Collection
from pathlib import Path
from types import FrameType

from notnow.time_travel.descriptors import Name, name, names, open_files, socket_of
from notnow.time_travel.effort import effort
from notnow.time_travel.frames import current_frames
from notnow.time_travel.parties import Party, Wait, real_monotonic

GRACE = 0.5  # real seconds without work after which a thread must be blocked in an invisible call
NEAR = 0.05  # real seconds of silence after which another server of this process has nothing more to send
FAR = 1.0  # the same for other peers' sockets in a selector: they may be idle or slow
FOREVER = float("inf")
# The fakes' own loop serves its callers in real time; a debugger must not be hurried.
_EXCUSED = frozenset({"notnow.servers.base.runner", "pdb", "bdb"})
_STARTING = ("notnow.time_travel.roster", "start")  # a thread that has been started begins, when it gets a processor

# Where the threads of pools wait for work; the queue of a pool from before is invisible.
_QUEUES = frozenset({("concurrent.futures.thread", "_worker"), ("multiprocessing.pool", "worker")})

LOOK = 0.05  # the most real seconds of idleness that one look can prove
# A thread that wakes up again and again, and hardly works, polls in small steps, or waits for the interpreter and gets
# no turn: after so many real seconds it counts as idle.
STEPS = 0.5


class Sample:
    """A party at a look. `quiet` are the real seconds since in which it has hardly worked, `still` those at the end in
    which it slept without waking up.
    """

    def __init__(self, party: Party) -> None:
        self.at = self.seen = real_monotonic()
        self.quiet = self.still = 0.0
        frame = current_frames().get(party.ident)
        self.place = (id(frame), frame.f_lasti if frame else 0)
        self.effort = self.last = effort(party.native)

    def worked_since(self, before: Sample) -> bool:
        """True if it used a tenth of the time, or waited for a processor at both looks.

        A thread that polls in small steps uses less. One that gets no processor has used none, and yet is at work.
        """
        now, then = self.effort, before.effort
        if now.run is None or then.run is None:
            return self.place != before.place
        if not now.asleep and not before.last.asleep:
            return True
        return now.run + now.queued - then.run - then.queued > 0.1 * (self.at - before.at)

    def goes_on_to(self, now: Sample) -> None:
        """It has hardly worked until `now`."""
        # A driver that could not look for long proves nothing: the GIL was held, or the machine was busy or asleep.
        span = min(now.at - self.seen, LOOK)
        slept = now.effort.asleep and now.effort.switches == self.last.switches
        self.quiet += span
        self.still = self.still + span if slept else 0.0
        self.seen, self.last = now.at, now.effort


def idle(party: Party) -> float:
    """Real seconds for which a running party has not worked: it is blocked in an invisible call."""
    if not party.native or _excused(current_frames().get(party.ident)):
        return 0.0  # it has not begun yet, or waits for someone that will act in any case
    now, before = Sample(party), party.watched
    if not isinstance(before, Sample) or now.worked_since(before):
        party.watched = now
        return 0.0
    before.goes_on_to(now)
    return before.quiet if party.outside or before.quiet >= STEPS else before.still


def queued(party: Party) -> float:
    """Real seconds that a party was ready and waited for a processor, in its life."""
    return effort(party.native).queued


def place(party: Party) -> str | None:
    """The position of a party; None if it must not be hurried there."""
    frame = current_frames().get(party.ident)
    if frame is None or _excused(frame):
        return None
    code = frame.f_code
    return f"{party.name} in {code.co_name}() ({Path(code.co_filename).name}:{frame.f_lineno})"


def waits_for_work(party: Party) -> bool:
    """True for a thread of a pool that has nothing to do."""
    frame = current_frames().get(party.ident)
    return frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) in _QUEUES


def _excused(frame: FrameType | None) -> bool:
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module in _EXCUSED or (module, frame.f_code.co_name) == _STARTING:
            return True
        frame = frame.f_back
    return False


class Children:
    """The child processes of parties that may still be alive."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()

    def add(self, child: subprocess.Popen[bytes]) -> None:
        self._known.add(child)

    def alive(self) -> bool:
        """True if one is alive or not yet reaped. Does not reap it: the status belongs to its parent's code."""
        if any(child.returncode is None and _exists(child.pid) for child in list(self._known)):
            return True
        return of_multiprocessing()


def of_multiprocessing() -> bool:
    """Is a process of multiprocessing alive?"""
    process = sys.modules.get("multiprocessing.process")
    popens = [child._popen for child in list(process._children)] if process is not None else []
    return any(popen is not None and popen.returncode is None and _exists(popen.pid) for popen in popens)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def patience(wait: Wait, ports: Collection[int]) -> float:
    """Real seconds of silence that a wait needs before time may jump.

    0 for a wait for a fake at one of `ports` or for another thread; FOREVER for a wait for a pipe, a process, or
    another server's answer.
    """
    return max((_patience(fd, wait.alone, ports) for fd, _ in wait.files), default=0.0)


def _patience(fd: int, alone: bool, ports: Collection[int]) -> float:
    try:
        mine, peer = names(fd)
    except OSError as error:
        return _piped(fd, ports) if error.errno == errno.ENOTSOCK else 0.0
    if peer is None or (peer[1] in ports and _local(mine, peer)):
        return 0.0
    if peer in _held():
        return NEAR
    return FOREVER if alone else FAR


def _local(mine: Name, peer: Name) -> bool:
    return peer[0] in (mine[0], "::1") or peer[0].startswith("127.")


def _held() -> set[Name | None]:
    """The own ends of all sockets of this process."""
    held: set[Name | None] = set()
    for fd in open_files():
        with contextlib.suppress(OSError), socket_of(fd) as sock:
            held.add(name(sock.getsockname()))
    return held


def _piped(fd: int, ports: Collection[int]) -> float:
    """A pipe within the process only wakes a loop; a pipe to another process is worth any wait."""
    try:
        own = os.fstat(fd)
    except OSError:
        return 0.0
    if not stat.S_ISFIFO(own.st_mode):
        polled = _polled(fd)
        return FOREVER if polled is None else max((_patience(other, False, ports) for other in polled), default=0.0)
    if of_multiprocessing():
        return FOREVER  # it may hold an end as well
    ends = 0
    for other in open_files():
        with contextlib.suppress(OSError):
            ends += os.path.samestat(own, os.fstat(other))
    return 0.0 if ends > 1 else FOREVER


def _polled(fd: int) -> list[int] | None:
    """The descriptors that an epoll waits for; None if `fd` is not an epoll."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        if "eventpoll" not in str(Path(f"/proc/self/fd/{fd}").readlink()):
            return None
    except OSError:
        return None
    return [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
