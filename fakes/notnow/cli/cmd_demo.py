"""`notnow demo`: a careless and a careful sender in the same outage, side by side."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from notnow.journal import Connection, Exchange
    from notnow.servers.smtp import FakeSMTP

SCENARIO, OUTAGE = "smtp/overload", 300.0  # seconds of scenario time
SPEED = 150.0  # an outage of five minutes takes two seconds
STEP = 30.0  # seconds of scenario time on a line of the timeline
SEED = 421
FRAME = 0.05  # real seconds between two pictures


@click.command("demo")
@click.option("--source", is_flag=True, help="Print the code of the two senders, and run nothing.")
@click.option(
    "--seed", type=int, default=SEED, show_default=True, metavar="N", help="Seed of the careful sender's jitter."
)
def command(source: bool, seed: int) -> None:
    """Watch a careless and a careful sender meet the same outage.

    Both are real code (smtplib) on real sockets. Each has its own fake SMTP server that plays smtp/overload: 421
    to every connection for five minutes, which take two seconds here.

    \b
    Examples:
      notnow demo
      notnow demo --seed 7
      notnow demo --source > senders.py
    """
    if source:
        _print_source()
    else:
        _run(seed)


def _print_source() -> None:
    from notnow.cli import demo_senders
    from notnow.page import console

    code = Path(demo_senders.__file__).read_text("utf-8")
    page = console()
    if not page.is_terminal:
        click.echo(code, nl=False)
        return
    from rich.syntax import Syntax

    page.print(Syntax(code, "python", background_color="default"))


# ---- the play ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Act:
    """One sender against its own fake. `delivered` is what the sender believes, None while it tries."""

    title: str
    fake: FakeSMTP
    send: Callable[[str, int, EmailMessage], bool]
    delivered: bool | None = None

    def play(self) -> None:
        self.delivered = self.send(self.fake.host, self.fake.port, _message(self.title))

    @property
    def connections(self) -> tuple[Connection, ...]:
        return self.fake.journal.connections

    def since_start(self, at: float) -> float:
        """Seconds of scenario time since this sender's first connection."""
        return max(0.0, at - self.connections[0].opened_at)

    @property
    def refusals(self) -> list[Exchange]:
        return [exchange for exchange in self.fake.journal if exchange.refused]

    @property
    def stored(self) -> list[Exchange]:
        return [exchange for exchange in self.fake.journal if exchange.stored]


def _message(who: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "app@example.test", "customer@example.test", "Your order"
    message["Message-ID"] = f"<{who.replace(' ', '-')}@example.test>"
    message.set_content("It is on its way.")
    return message


@contextmanager
def _acts(seed: int) -> Iterator[tuple[Act, Act]]:
    from notnow import FakeSMTP, RealClock
    from notnow.cli import demo_senders

    clock, chance = RealClock(speed=SPEED), random.Random(seed)

    def careful(host: str, port: int, message: EmailMessage) -> bool:
        return demo_senders.careful(
            host, port, message, sleep=lambda seconds: time.sleep(seconds / SPEED), jitter=chance.uniform
        )

    outage = f"{OUTAGE:g}s"
    with (
        FakeSMTP(SCENARIO, outage=outage, clock=clock, name="careless") as first,
        FakeSMTP(SCENARIO, outage=outage, clock=clock, name="careful") as second,
    ):
        yield Act("careless sender", first, demo_senders.careless), Act("careful sender", second, careful)


def _run(seed: int) -> None:
    from notnow.page import Page

    page = Page()
    page.line("Two senders, one outage: the server answers every connection with 421 for five minutes, then recovers.")
    page.line(f"Each has a server of its own; time passes {SPEED:g} times as fast.", style="dim")
    page.line()
    with _acts(seed) as acts:
        threads = [threading.Thread(target=act.play, name=act.title, daemon=True) for act in acts]
        for thread in threads:
            thread.start()
        if page.is_terminal:
            _watch(page.console, acts, threads)
        for thread in threads:
            thread.join()
        if not page.is_terminal:
            _print_plain(acts)
        page.line()
        for act in acts:
            colour = "bold green" if len(act.stored) == 1 else "bold red"
            page.line(f"{act.title}: {verdict(act)}", style=colour)
    page.line()
    page.line("next: notnow list · notnow serve smtp/overload · notnow demo --source · README", style="cyan")


def verdict(act: Act) -> str:
    """One sentence about the outcome, from the journal."""
    from notnow.conduct.reading.attempts import retries
    from notnow.units import show

    met, copies = len(act.refusals), len(act.stored)
    if not copies:
        span = show(act.since_start(act.connections[-1].opened_at))
        return f"LOST THE MAIL: {_connections(met)} in {span}, each told 421, then it gave up and kept nothing."
    waits = ", ".join(show(round(retry.delay)) for retry in retries(act.fake.journal))
    how = "DELIVERED ONCE" if copies == 1 else f"DELIVERED {copies} TIMES"
    after = show(round(act.since_start(act.stored[-1].at)))
    return f"{how}: {_connections(met)} during the outage, with waits of {waits}, and through after {after}."


def _connections(n: int) -> str:
    return "1 connection" if n == 1 else f"{n} connections"


# ---- the timeline ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the timeline: `STEP` seconds of the server, and what each sender did in them."""

    at: float
    overloaded: bool
    cells: tuple[str, ...]


def rows(acts: tuple[Act, ...], until: float) -> list[Row]:
    """The timeline, to scale, up to so many seconds of scenario time."""
    return [
        Row(number * STEP, number * STEP < OUTAGE, tuple(_cell(act, number * STEP) for act in acts))
        for number in range(int(until // STEP) + 1)
    ]


def _cell(act: Act, start: float) -> str:
    here = [c for c in act.connections if start <= act.since_start(c.opened_at) < start + STEP]
    if not here:
        return _between(act, start)
    if any(exchange in act.stored for exchange in here[-1].exchanges):
        return "+ 250: delivered"
    told = "x 421" if len(here) == 1 else f"{'x' * min(len(here), 12)} {len(here)} times 421"
    if here[-1] is not act.connections[-1]:
        return f"{told}, waits {_wait_after(act, here[-1])}"
    return f"{told}, gives up" if act.delivered is False else f"{told}, waits"


def _between(act: Act, start: float) -> str:
    """The cell of a sender without an attempt: it waits for the next, or has made its last."""
    last = act.since_start(act.connections[-1].opened_at)
    if act.delivered is None or start < last:
        return "|"
    return "! the mail is lost" if act.delivered is False and start - STEP <= last else ""


def _wait_after(act: Act, refused: Connection) -> str:
    from notnow.conduct.reading.attempts import retries
    from notnow.units import show

    delays = (r.delay for r in retries(act.fake.journal) if r.refusal.connection is refused)
    return show(round(next(delays, 0.0)))


def _end(acts: tuple[Act, ...]) -> float:
    """The time of the last attempt, or now if a sender still tries, in scenario seconds."""
    return max(
        act.since_start(act.fake.clock.now() if act.delivered is None else act.connections[-1].opened_at)
        for act in acts
        if act.connections
    )


def _print_plain(acts: tuple[Act, ...]) -> None:
    from notnow.units import show

    click.echo(f"{'time':>7}  server  {acts[0].title:<36}  {acts[1].title}")
    for row in rows(acts, _end(acts)):
        left, right = row.cells
        server = "421" if row.overloaded else "220"
        click.echo(f"{show(row.at):>7}  {server:<6}  {left:<36}  {right}".rstrip())


def _picture(acts: tuple[Act, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from notnow.units import show

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("time", justify="right", width=7)
    table.add_column("server", width=6)
    table.add_column(acts[0].title, min_width=30)
    table.add_column(acts[1].title, min_width=20)
    for row in rows(acts, _end(acts)) if any(act.connections for act in acts) else ():
        bar = Text(" 421  ", style="white on red") if row.overloaded else Text(" 220  ", style="black on green")
        table.add_row(Text(show(row.at), style="dim"), bar, *(Text(cell, style=_colour(cell)) for cell in row.cells))
    return table


def _colour(cell: str) -> str:
    return {"x": "red", "!": "bold red", "+": "bold green"}.get(cell[:1], "dim")


def _watch(console: Console, acts: tuple[Act, ...], threads: list[threading.Thread]) -> None:
    """Show the timeline as it grows."""
    from rich.live import Live

    with Live(_picture(acts), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while any(thread.is_alive() for thread in threads):
            time.sleep(FRAME)
            live.update(_picture(acts), refresh=True)
