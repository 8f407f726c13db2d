"""The workers of a fake, as the process sees them that has started them: their orders, their questions, their reports.

All of it is for the loop's thread. A worker waits for the answer to its question; an answer brings the position of the
scenario, and so do orders. What ends a phase is answered when no worker can act in that phase any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from notnow.clock import Origin
from notnow.errors import FakeError, StartError
from notnow.journal.relay import Batch
from notnow.servers.workers.duty import Duty, Failed
from notnow.servers.workers.remote import State
from notnow.servers.workers.wire import Descriptor, Passage, Wire

PAUSE = 0.02  # real seconds from the first news to the report
END = 1.0  # real seconds that a process has to end when its lines are cut
_PACKAGES = str(Path(__file__).parents[3])
_MAIN = f"import sys; sys.path.append({_PACKAGES!r}); from notnow.servers.workers.worker import main; main()"


class Employer(Protocol):
    """The fake of the workers."""

    @property
    def standing(self) -> State:
        """The position of the scenario, behind the number of its changes."""

    @property
    def origin(self) -> Origin:
        """The time that its clock shows."""

    def answer(self, question: str, *given: Any) -> tuple[Any, bool]:
        """The answer to a question, and whether the position has changed with it."""

    def look_ahead(self, questions: Sequence[Sequence[Any]]) -> None:
        """These decisions of a play are the next questions, one after the other."""

    def gather(self, reports: Sequence[tuple[object, Batch]], last: bool = False) -> None: ...

    def lost(self, why: FakeError, duty: Duty | None = None) -> None:
        """The worker with this duty has ended by itself, or some do not end."""

    def failed(self, error: BaseException) -> None: ...
    def guest_failed(self, error: BaseException) -> None: ...


class GuestError(Exception):
    """What the user's code has raised in another process, as it shows itself."""

    def __repr__(self) -> str:
        return str(self)


class Worker:
    """One of them. `waiting`: it does nothing until its question is answered; `knows`: the last position that it does."""

    def __init__(self, duty: Duty, process: subprocess.Popen[bytes]) -> None:
        self.duty, self.place, self.process = duty, duty.place, process
        self.calls: Wire
        self.orders: Wire
        self.passage: Passage
        self.waiting, self.gone, self.knows = False, False, -1
        self._answers: deque[asyncio.Future[Any]] = deque()

    async def ask(self, message: object) -> Any:
        """Carry this order out, after those before it. Raises FakeError where our own code fails, and for a worker that is gone;
        StartError where the user's app does not start.
        """
        if self.gone:
            raise FakeError("a worker is gone")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.orders.send(message)
        found = await answer
        if isinstance(found, Failed):
            raise StartError(found.text) if found.said else FakeError(found.text)
        return found

    def obeyed(self, answer: object) -> None:
        future = self._answers.popleft()
        if not future.done():
            future.set_result(answer)

    def leave(self) -> None:
        self.gone, self.waiting = True, False
        while self._answers:
            future = self._answers.popleft()
            if not future.done():
                future.set_exception(FakeError("a worker is gone"))
        self.calls.close()
        self.orders.close()
        self.passage.close()


class Crew:
    """All of them. They have `time_to_stop` real seconds to stop; only a bug takes longer."""

    def __init__(self, employer: Employer, time_to_stop: float) -> None:
        self._employer, self._time_to_stop = employer, time_to_stop
        self._all: list[Worker] = []
        self._held: list[tuple[int, Worker, Any]] = []  # answers until every worker knows a position
        self._questions: list[tuple[Worker, list[Any]]] = []  # about a play, of this turn of the loop
        self._resting: list[Worker] = []
        self._at_rest: Callable[[], object] | None = None
        self._handed_in: list[tuple[object, Batch]] = []
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ready = self._soon = self._stopping = False

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self._all if not worker.gone]

    # ---- life ------------------------------------------------------------------------------------

    async def start(self, duties: Sequence[tuple[Duty, socket.socket]]) -> None:
        """Start a worker for each duty, on its socket. Raises FakeError or StartError if one cannot begin; then `stop` is to be called."""
        for duty, sock in duties:
            await self._hire(duty, sock)
        ready = [worker.ask(duty) for worker, (duty, _) in zip(self._all, duties, strict=True)]
        await asyncio.gather(*ready)
        self._ready = True
        self.spread()  # what has changed meanwhile
        self.news()

    async def _hire(self, duty: Duty, listening: socket.socket) -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        (calls, its_calls), (orders, its_orders), (passage, its_passage) = pairs
        given = [its_calls.fileno(), its_orders.fileno(), its_passage.fileno(), listening.fileno()]
        command = [sys.executable, "-P", "-c", _MAIN, *map(str, given)]
        with its_calls, its_orders, its_passage:
            worker = Worker(duty, _start(command, given))
        self._all.append(worker)
        lost = partial(self._lost, worker)
        worker.passage = Passage(passage)
        worker.calls, worker.orders = Wire(partial(self._asked, worker), lost), Wire(worker.obeyed, lost)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: worker.calls, sock=calls)
        await loop.create_unix_connection(lambda: worker.orders, sock=orders)

    async def stop(self) -> None:
        """Have the workers say goodbye to their clients, take their last reports, and wait for their ends."""
        self._stopping = True
        if self._ready:
            try:
                async with asyncio.timeout(self._time_to_stop), self._order:
                    await self._take_last_reports()
            except TimeoutError:
                why = f"the workers have not stopped within {self._time_to_stop:g} s; what they had not reported yet is missing from the journal"
                self._employer.lost(FakeError(why))
            except FakeError:  # one that was lost meanwhile
                pass
        for task in self._tasks:
            task.cancel()
        for worker in self.living:
            worker.leave()
        await asyncio.gather(*map(_ended, self._all))

    async def _take_last_reports(self) -> None:
        living = self.living
        found = await asyncio.gather(*map(self._take_last_report, living))
        for _, errors, guest_errors in found:
            for error in errors:
                self._employer.failed(RuntimeError(f"in a worker: {error}"))
            for error in guest_errors:
                self._employer.guest_failed(GuestError(error))
        self._take([(w.place, batch) for w, (batch, _, _) in zip(living, found, strict=True)], last=True)

    async def _take_last_report(self, worker: Worker) -> Any:
        found = await worker.ask(("stop",))
        worker.waiting = True  # for nothing: it does not act any more, and follows no order to move
        self._release()
        return found

    def _lost(self, worker: Worker) -> None:
        """Its line is cut: a worker that has not been told to stop has been killed, or has failed."""
        if worker.gone:
            return
        worker.leave()
        if not self._stopping:
            self._employer.lost(FakeError(_obituary(worker.process)), worker.duty)
        if worker in self._resting:
            self._resting.remove(worker)
        self._go_on()
        self._release()

    # ---- questions -------------------------------------------------------------------------------

    def _asked(self, worker: Worker, message: tuple[Any, ...]) -> None:
        question, *given = message
        if question == "news":
            self.news()
        elif question == "look":
            self._spawn(self._look(worker))
        else:
            worker.waiting = True
            self._release()
            if question == "in_play":
                self._take_soon(worker, given)
            else:
                self._take_question(worker, question, given)

    def _take_soon(self, worker: Worker, given: list[Any]) -> None:
        """Redis answers the questions of several workers in the time of one."""
        if not self._questions:
            asyncio.get_running_loop().call_soon(self._take_questions)
        self._questions.append((worker, given))

    def _take_questions(self) -> None:
        asked, self._questions = [one for one in self._questions if not one[0].gone], []
        for question, each in groupby(asked, key=lambda one: one[1][1]):
            alike = list(each)
            if question == "decide" and len(alike) > 1:
                try:
                    self._employer.look_ahead([given for _, given in alike])
                except Exception as error:
                    self._employer.failed(error)
            for worker, given in alike:
                self._take_question(worker, "in_play", given)

    def _take_question(self, worker: Worker, question: str, given: list[Any]) -> None:
        if question == "rest":
            self._resting.append(worker)
            self._go_on()
        elif question == "batch":
            self._handed_in.append((worker.place, *given))
            self._answer(worker, None)
        else:
            try:
                answer, moved = self._employer.answer(question, *given)
            except Exception as error:
                self._employer.failed(error)
                answer, moved = error, False
            if moved:
                self._held.append((self._employer.standing[0], worker, answer))
                self._release()
            else:
                self._answer(worker, answer)

    def _answer(self, worker: Worker, answer: object) -> None:
        state = self._employer.standing
        if isinstance(answer, Descriptor) and not worker.passage.send(answer.number):
            answer = -1
        worker.calls.send((answer, state))
        worker.waiting, worker.knows = False, state[0]

    # ---- the position of the scenario ------------------------------------------------------------

    def spread(self) -> None:
        """The position has changed. Workers that wait learn it with their answers."""
        for worker in self.living if self._ready else ():
            if not worker.waiting:
                self._spawn(self._follow(worker))

    async def _follow(self, worker: Worker) -> None:
        state = self._employer.standing
        await worker.ask(("follow", state, self._employer.origin))
        worker.knows = max(worker.knows, state[0])
        self._release()

    def _release(self) -> None:
        """Give the answers that were held, as far as no worker can act on an older position any more."""
        for one in list(self._held):
            version, worker, answer = one
            if all(other.waiting or other.knows >= version for other in self.living):
                self._held.remove(one)
                if not worker.gone:
                    self._answer(worker, answer)

    async def at_rest(self, work: Callable[[], object], *order: object) -> None:
        """Give an order in which every worker comes to rest, and do `work` while none of them does anything."""
        async with self._order:
            self._take(await self._reports())
            failed: list[Exception] = []

            def carefully() -> None:
                try:
                    work()
                except Exception as error:
                    failed.append(error)

            self._at_rest = carefully
            await asyncio.gather(*(worker.ask(order) for worker in self.living))
        if failed:
            raise failed[0]

    def _go_on(self) -> None:
        """If all workers rest, do what is to be done then, and let them go on."""
        if not self._resting or len(self._resting) < len(self.living):
            return
        work, self._at_rest = self._at_rest, None
        if work is not None:
            work()
        resting, self._resting = self._resting, []
        for worker in resting:
            self._answer(worker, None)

    async def _look(self, new: Worker) -> None:
        """A worker has accepted clients: let the others read what theirs sent or closed before."""
        await asyncio.gather(*(worker.ask(("look",)) for worker in self.living if worker is not new))
        await new.ask(("let_in",))

    async def tell_all(self, *order: object) -> list[Any]:
        """Give an order to all; their answers."""
        async with self._order:
            return list(await asyncio.gather(*(worker.ask(order) for worker in self.living if self._ready)))

    def tell_soon(self, *order: object) -> None:
        """Give an order to all, before those that follow."""
        self._spawn(self._tell_soon(order))

    async def _tell_soon(self, order: Sequence[object]) -> None:
        await self.tell_all(*order)

    # ---- reports ---------------------------------------------------------------------------------

    def news(self) -> None:
        """There is something to report: gather it soon."""
        if self._ready and not self._soon and not self._stopping:
            self._soon = True
            asyncio.get_running_loop().call_later(PAUSE, lambda: self._spawn(self._gather_soon()))

    async def _gather_soon(self) -> None:
        self._soon = False
        await self.gather()

    async def gather(self) -> None:
        """Take the reports of all workers: what has happened until now is in the journal then."""
        async with self._order:
            if self._ready and not self._stopping:
                self._take(await self._reports())

    async def _reports(self) -> list[tuple[object, Batch]]:
        living = self.living
        found = await asyncio.gather(*(worker.ask(("report",)) for worker in living))
        return [(worker.place, batch) for worker, batch in zip(living, found, strict=True)]

    def _take(self, reports: list[tuple[object, Batch]], last: bool = False) -> None:
        handed_in, self._handed_in = self._handed_in, []
        self._employer.gather(sorted([*handed_in, *reports], key=lambda one: one[1].until), last)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._carefully(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carefully(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            if not self._stopping and len(self.living) == len(self._all):
                self._employer.failed(error)


def _start(command: list[str], descriptors: list[int]) -> subprocess.Popen[bytes]:
    """A new process, and no copy of this one, which has threads; it inherits these descriptors, and what an app prints to."""
    return subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL)


async def _ended(worker: Worker) -> None:
    """Wait for the end of a process whose lines are cut; kill it if it takes too long."""
    end = asyncio.get_running_loop().time() + END
    while worker.process.poll() is None:
        if asyncio.get_running_loop().time() > end:
            worker.process.kill()
        await asyncio.sleep(0.005)


def _obituary(process: subprocess.Popen[bytes]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    code = process.returncode
    how = "has cut its line" if code is None else f"has ended with exit code {code}"
    if code is not None and code < 0:
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return (
        f"worker process {process.pid} {how}, and its clients are cut off; what it had not reported yet is missing from the "
        "journal, so notnow stops"
    )
