"""One thread and one event loop for all the fakes of a process.

It starts with the first fake and ends with the last. Other threads use the loop through `call`, `run` and `settle`. These
wait on bare locks, which keep real time whatever a test does to clocks.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import socket
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from selectors import EVENT_READ
from typing import Any, ClassVar, TypeVar, TypeVarTuple, Unpack

from notnow import true_time
from notnow.errors import NotRunningError
from notnow.servers.base import guests
from notnow.servers.base.peace import Errand
from notnow.servers.base.polling import POLLS_ON, Polling, Ready, number
from notnow.servers.base.turns import Turns

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
PATIENCE = 30.0  # real seconds that another thread waits for the loop; only a bug takes longer


class _Selector(Polling):
    """A selector that tells watchers when its loop has nothing to run and nothing to read."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: list[_thread.LockType] = []
        self.busy_until = 0.0  # on the loop's own clock

    def select(self, timeout: float | None = None) -> Ready:
        if self.watchers and (timeout is None or timeout > 0):
            if (left := self.busy_until - true_time.monotonic()) > 0:
                return super().select(left if timeout is None else min(left, timeout))
            if ready := super().select(0):
                return ready
            self.dismiss()
        return Polling.select(self, timeout)  # `super()` would make an object in each turn

    def watch(self, watcher: _thread.LockType) -> None:
        """Release this lock when the loop comes to rest. Call it in the loop's thread only."""
        self.watchers.append(watcher)

    def dismiss(self) -> None:
        """Release the watchers."""
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher.release()


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop on true time: a test that freezes `time.monotonic` does not stop the timers of the fakes.

    It adds, removes and wakes a reader in a fifth of asyncio's work, where nothing else is watched for at the same number.
    """

    time = staticmethod(true_time.monotonic)

    def __init__(self, polling: Polling) -> None:
        super().__init__(polling)
        self._polling = polling

    def _read_from_self(self) -> None:
        """What another thread has sent to wake the loop. asyncio asks once more whether that was all: the selector tells."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self._ssock.recv(4096)  # type: ignore[attr-defined]

    def _process_events(self, event_list: Ready) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        for event in event_list:
            reader, writer = event[0].data
            if writer is None and not reader._cancelled:  # nearly always
                ready.append(reader)
            else:
                super()._process_events([event])  # type: ignore[misc]

    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        fd = number(fd)  # since Python 3.13 asyncio asks for what is watched with what it was given
        if fd in self._polling.get_map():
            super().add_reader(fd, callback, *args)
        else:
            self._polling.register(fd, EVENT_READ, (asyncio.Handle(callback, args, self), None))

    def remove_reader(self, fd: Any) -> bool:
        fd = number(fd)
        key = self._polling.get_map().get(fd)
        if key is None or key.events != EVENT_READ:
            return super().remove_reader(fd)
        self._polling.unregister(fd)
        key.data[0].cancel()
        return True

    def forget(self, fd: int) -> bool:
        """Stop to watch a reader whose callback may be under way in this very moment. False if there is no such reader alone."""
        key = self._polling.get_map().get(fd)
        if key is None or key.events != EVENT_READ:
            return False
        self._polling.unregister(fd)
        return True

    def add_writer(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        super().add_writer(number(fd), callback, *args)

    def remove_writer(self, fd: Any) -> bool:
        return super().remove_writer(number(fd))


def polls_on(loop: asyncio.AbstractEventLoop) -> bool:
    """True if any thread may have this loop begin or end to watch a socket, and need not wake it."""
    return POLLS_ON and isinstance(loop, _Loop)


def begin_to_read(loop: asyncio.AbstractEventLoop, sock: socket.socket, callback: Callable[[], object]) -> None:
    """`loop.add_reader` from any thread. Where the loop `polls_on`, it is not woken.

    The thread that has woken another waits for the interpreter until that one has done its turn, on a busy machine for long.
    """
    if polls_on(loop):
        loop.add_reader(sock.fileno(), callback)
    else:
        loop.call_soon_threadsafe(_read, loop, sock, callback)


def end_reading(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """`loop.remove_reader`; from any thread if the loop `polls_on`. It may be about to call the callback once more."""
    if not isinstance(loop, _Loop) or not loop.forget(sock.fileno()):
        loop.remove_reader(sock.fileno())


def _read(loop: asyncio.AbstractEventLoop, sock: socket.socket, callback: Callable[[], object]) -> None:
    if sock.fileno() >= 0:  # not closed meanwhile
        loop.add_reader(sock.fileno(), callback)


class _LoopThread(threading.Thread):
    """A thread in real time: `notnow.time_travel.fast_forward` leaves it alone."""

    real_time = True


class Runner:
    """A thread that runs an event loop. `errors` collects exceptions outside any connection."""

    _shared: ClassVar[dict[tuple[str, int], Runner]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, kind: str = "asyncio") -> None:
        self.kind, self.pid = kind, os.getpid()
        self.users = 0
        self.errors: list[BaseException] = []
        self.hosts: list[guests.Tell] = []  # how to tell the fakes that call user code of its errors
        self._ending = False
        self._selector: _Selector | None = None
        self.loop = self._new_loop()
        self.loop.set_exception_handler(self._on_error)
        self.turns = Turns(self.loop)  # the queue of connections that have more to do
        self._left = _thread.allocate_lock()
        self._left.acquire()
        self._thread = _LoopThread(target=self._main, name="notnow", daemon=True)
        self._thread.start()

    @classmethod
    def shared(cls) -> Runner | None:
        """The runner that `acquire` would find; None if there is none yet."""
        return cls._shared.get(_key())

    @classmethod
    def acquire(cls, kind: str | None = None) -> Runner:
        """The runner of this process; `release` it when done. `kind` is "asyncio" or "uvloop"."""
        key = _key(kind)
        with cls._guard:
            runner = cls._shared.get(key)
            if runner is None:
                runner = cls._shared[key] = cls(key[0])
            runner.users += 1
            return runner

    def release(self) -> None:
        with self._guard:
            self.users -= 1
            if self.users:
                return
            self._shared.pop((self.kind, os.getpid()), None)
            self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_current:
            self._left.acquire(timeout=PATIENCE)
            self._thread.join(PATIENCE)  # its code has ended: the thread ends within microseconds

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        if self.kind == "uvloop":
            import uvloop

            return uvloop.new_event_loop()
        if self.kind != "asyncio":
            raise ValueError(f"NOTNOW_LOOP is {self.kind!r}; allowed: asyncio, uvloop")
        self._selector = _Selector()
        return _Loop(self._selector)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._turn()
        finally:
            with contextlib.suppress(Exception):
                self.loop.run_until_complete(_end_tasks())
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            if self._selector is not None:
                self._selector.dismiss()
            self.loop.close()
            self._left.release()

    def _turn(self) -> None:
        """Run the loop until the last fake is gone.

        asyncio ends a loop at a SystemExit or KeyboardInterrupt in any task. In this thread only user code can raise one,
        since signals go to the main thread. The fakes go on.
        """
        while not self._ending:
            try:
                self.loop.run_forever()
                return
            except (SystemExit, KeyboardInterrupt) as error:
                self._tell(error, {})

    def _tell(self, error: BaseException, context: dict[str, Any]) -> None:
        """Tell the fake whose user code raised this; if it is unknown, the next fake to be stopped."""
        task = context.get("task") or context.get("future")
        get_context = getattr(task, "get_context", None)  # new in Python 3.12
        tell = get_context().get(guests.blame) if get_context is not None else None
        tell = tell or (self.hosts[0] if self.hosts and (task is not None or not context) else self.errors.append)
        tell(error)

    def _on_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, (ConnectionError, TimeoutError)):
            return  # a client has left
        self._tell(error or RuntimeError(str(context.get("message"))), context)

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def call(self, function: Callable[[], T]) -> T:
        """Call `function` in the loop's thread and give its result, or raise what it raised."""
        if self.is_current:
            return function()

        async def once() -> T:
            return function()

        return self.run(once())

    def run(self, work: Coroutine[Any, Any, T], patience: float = PATIENCE) -> T:
        """Run a coroutine in the loop and wait for it, at most `patience` real seconds, from any other thread."""
        if self.is_current:
            work.close()
            raise RuntimeError("the fakes' loop is this very thread's: it would wait for itself")
        if self.loop.is_closed():
            work.close()
            raise NotRunningError("the fakes' loop is closed")
        done = _thread.allocate_lock()
        done.acquire()
        tasks: list[asyncio.Task[guests.Outcome[T]]] = []

        def begin() -> None:
            task = self.loop.create_task(guests.carried(work))
            tasks.append(task)
            task.add_done_callback(lambda _: done.release())

        self.loop.call_soon_threadsafe(begin)
        try:
            in_time = done.acquire(timeout=patience)
        except BaseException:  # a Ctrl-C: the caller no longer waits
            self.loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            raise
        if not in_time:
            cancel = lambda: [task.cancel() for task in tasks]  # noqa: E731
            self.loop.call_soon_threadsafe(self.loop.call_soon, cancel)  # once it has begun
            raise TimeoutError(_blocked(patience))
        return tasks[0].result().get()

    def run_in_peace(self, work: Coroutine[Any, Any, T]) -> T:
        """`run`, as an `Errand` of the loop's thread: a Ctrl-C does not interrupt it. Somebody has to keep the runner meanwhile.

        Up to where it first waits, the work is no task.
        """
        errand: Errand[T] = Errand()

        async def carried() -> None:
            errand.end(await guests.carried(work))

        def begin() -> None:
            if not errand.begins():
                work.close()
                return
            job = carried()
            try:
                waits = job.send(None)
            except StopIteration:  # nearly always: a task costs as much as the work
                return
            self.loop.create_task(_resumed(job, waits))

        outcome = errand.result(lambda: self.loop.call_soon_threadsafe(begin), PATIENCE)
        if outcome is None:
            raise TimeoutError(_blocked(PATIENCE))
        return outcome.get()

    def hold(self, seconds: float) -> None:
        """Something ends within this many real seconds: until then the loop is not at rest. Call it in the loop only."""
        if self._selector is not None:
            self._selector.busy_until = max(self._selector.busy_until, self.loop.time() + seconds)

    def settle(self, patience: float | None = None) -> None:
        """Return when the loop has nothing left to run and nothing left to read. Raises TimeoutError after `patience` seconds."""
        if self.is_current:
            return
        patience = PATIENCE if patience is None else patience
        if self._selector is None:
            self.run(_rounds(self.turns), patience)
            return
        quiet = _thread.allocate_lock()
        quiet.acquire()
        self.loop.call_soon_threadsafe(self._selector.watch, quiet)
        if not quiet.acquire(timeout=patience):
            raise TimeoutError(f"the fakes' loop did not come to rest in {patience:g} s")


def _key(kind: str | None = None) -> tuple[str, int]:
    return kind or os.environ.get("NOTNOW_LOOP", "asyncio"), os.getpid()


def _blocked(patience: float) -> str:
    return f"the fakes' loop did not answer in {patience:g} s: is something blocking it?"


async def _resumed(job: Coroutine[Any, Any, None], waits: Any) -> None:
    """The rest of a coroutine whose first step was made without a task, and has come to wait."""

    @types.coroutine
    def rest() -> Generator[Any, Any, None]:
        yield waits
        yield from job.__await__()

    await rest()


async def _end_tasks() -> None:
    """Cancel the tasks that are still running, and wait for their end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _rounds(turns: Turns, n: int = 12) -> None:
    """Settle a loop whose selector cannot be watched: turn it more often than any chain of our callbacks is long."""
    left = n
    while left:
        await asyncio.sleep(0)
        left = n if turns else left - 1
