"""The client of a sweep in a process of its own, for one run after the other or side by side."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from notnow.chaos.outcomes import Outcome, Played
from notnow.cli import Refused, _client
from notnow.cli._options import client_words
from notnow.cli._serving import Feed, fast_loop, signals_stop
from notnow.clock import RealClock
from notnow.conduct.reading.result import Exit
from notnow.conduct.reading.run import Run
from notnow.servers import by_protocol

if TYPE_CHECKING:
    from notnow.chaos.cells import Cell
    from notnow.chaos.sweeping import Spread, Told, Work
    from notnow.cli._targets import Target
    from notnow.conduct.pictures.report import Client
    from notnow.language.scenario import Scenario
    from notnow.servers.base.fake import Fake

KEPT = 4000  # most bytes of a client's output that are kept, from its end


class CannotRun(Exception):  # noqa: N818
    """The client's command cannot be run; the message says why."""


class Player:
    """Plays scenarios to a command, in any thread. `prefix` is the command of a program that executes the client."""

    def __init__(
        self, words: Sequence[str], target: Target, *, timeout: float, speed: float, prefix: Sequence[str]
    ) -> None:
        self.words, self.target, self.timeout, self.speed, self.prefix = words, target, timeout, speed, prefix
        self.around: Mapping[str, str | None] = {}  # the commands of --before and --after
        self.interrupted = False
        self._feeds: set[Feed] = set()

    def stop(self) -> None:
        """End all clients, and start none. A signal handler may call this."""
        self.interrupted = True
        for feed in list(self._feeds):
            feed.stop()

    def __call__(self, scenario: Scenario) -> Played:
        """Run the client once against a fresh fake. Raises CannotRun, or Refused where --before or --after fails."""
        with self._fake(scenario) as fake, tempfile.TemporaryFile() as output:
            self._run_around("--before", fake)
            client = self._client(fake, output)
            self._run_around("--after", fake)
            with contextlib.suppress(TimeoutError):  # a client in the background may never be idle
                fake.settle()
            ended = Exit(128 + signal.Signals[client.signal]) if client.signal else client.ended  # as shells report it
            return Played(Run([fake.journal], [fake.scenario]), ended, client.duration, _end_of(output))

    def _fake(self, scenario: Scenario) -> Fake:
        target = self.target
        return by_protocol(scenario.protocol)(
            scenario, name=target.name, host=target.host, clock=RealClock(self.speed), **target.options
        )

    def _client(self, fake: Fake, output: IO[bytes]) -> Client:
        feed = Feed()
        self._feeds.add(feed)
        if self.interrupted:
            feed.stop()
        try:
            client = _client.run(
                _client.fill(self.words, [fake]),
                _client.environment([fake]),
                feed,
                lambda _entries: None,
                before=self.prefix,
                timeout=self.timeout,
                stdout=output.fileno(),
                stderr=subprocess.STDOUT,
            )
        finally:
            self._feeds.discard(feed)
        if client.failure:
            raise CannotRun(client.failure)
        return client

    def _run_around(self, option: str, fake: Fake) -> None:
        command = self.around.get(option)
        if command is None or self.interrupted:
            return
        words = _client.fill(shlex.split(command), [fake])
        try:
            ran = subprocess.run(words, env=_client.environment([fake]), capture_output=True, check=False)
        except OSError as error:
            raise Refused([f"{option} cannot be run: {words[0]}: {error.strerror or error}"]) from None
        if ran.returncode:
            said = ran.stderr.decode(errors="replace").strip()
            raise Refused([f"{option} exited with {ran.returncode}: {shlex.join(words)}: {said or 'it said nothing'}"])

    def side_by_side(self, jobs: int) -> Spread:
        """Runs so many cells at a time; none is started after `stop`."""

        def spread(work: Work, cells: Iterable[Cell]) -> Iterator[Outcome]:
            running: set[Future[Outcome]] = set()
            left = iter(cells)
            with ThreadPoolExecutor(jobs, "notnow-cell") as pool:
                while not self.interrupted:
                    running |= {pool.submit(work, cell) for cell in islice(left, jobs - len(running))}
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    if not self.interrupted:  # a client that was ended proves nothing
                        yield from (one.result() for one in done)

        return spread


def _end_of(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - KEPT))
    return output.read().decode(errors="replace").strip()


@contextlib.contextmanager
def players(ctx: click.Context, target: Target, *, timeout: float, speed: float, fake_time: bool) -> Iterator[Player]:
    """The player of a command line; signals stop it."""
    prefix = _client.faketime(speed) if fake_time else []
    player = Player(client_words(ctx), target, timeout=timeout, speed=speed, prefix=prefix)
    with fast_loop(), signals_stop(player):
        yield player


@contextlib.contextmanager
def progress() -> Iterator[Told]:
    """On a terminal, a bar on standard error while cells run; elsewhere, nothing."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed} of {task.total} cells, {task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("none went wrong", total=None)
        wrong = 0

        def told(outcome: Outcome, known: int) -> None:
            nonlocal wrong
            wrong += outcome.bad
            said = f"{wrong} went wrong" if wrong else "none went wrong"
            bar.update(task, advance=1, total=known, description=said)

        yield told


def again(ctx: click.Context, words: Sequence[str]) -> str:
    """The command that runs one cell again, with {cell} for its id."""
    left = [name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    ours = [
        word for param in ctx.command.params if param.name in left for word in _given(param, ctx.params[param.name])
    ]
    line = shlex.join(["notnow", "sweep", *ours, "--cell", "CELL", "--", *words])
    return line.replace("{", "{{").replace("}", "}}").replace("CELL", "{cell}", 1)


_ONCE = frozenset({"cells", "pairs", "budget", "jobs", "faults", "at", "save", "as_json", "junit", "html", "summary"})


def _given(param: click.Parameter, value: Any) -> Iterator[str]:
    """The words of a parameter, as they were given; those that do not matter to one cell are left out."""
    if param.name in _ONCE:
        return
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(param, click.Argument):
            yield str(one)
        elif getattr(param, "is_flag", False):
            yield param.opts[0]
        else:
            yield from (param.opts[0], f"{one:g}" if isinstance(one, float) else str(one))
