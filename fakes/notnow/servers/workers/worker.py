"""The process of a worker: it starts a fake on a socket that it inherits, and carries out orders until the line is cut."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
import warnings
from importlib import import_module
from typing import Any

import trustme

from notnow.clock import AdjustableClock, Stamps
from notnow.errors import StartError
from notnow.servers import by_protocol
from notnow.servers.base import tls
from notnow.servers.base.fake import Fake
from notnow.servers.base.stopping import end_all
from notnow.servers.workers.duty import BRIDGES, Duty, Failed
from notnow.servers.workers.remote import Link
from notnow.servers.workers.wire import Line, Passage
from notnow.servers.workers.working import Working


class Worker:
    """The fake of this process, and what it is told to do."""

    def __init__(self, duty: Duty, line: Line, passage: Passage, sock: socket.socket) -> None:
        self.clock = _clock(duty)
        link = Link(line, duty.standing, passage)
        tls.issue = lambda shown: trustme.LeafCert(*link.ask("certificate", shown))
        self.fake = self._fake(duty, link, sock)
        bridge = self.fake._bridge
        assert isinstance(bridge, Working)
        self.bridge = bridge

    def _fake(self, duty: Duty, link: Link, sock: socket.socket) -> Fake:
        kind, known = (
            import_module(BRIDGES[duty.protocol]).Worker,
            {"link": link, "listening": sock, "traced": duty.traced, "duty": duty},
        )
        bridge = type(kind.__name__, (kind,), known)
        fake = by_protocol(duty.protocol)
        options = duty.options if duty.app is None else {**duty.options, "app": duty.app.load()}
        made = type(fake.__name__, (fake,), {"_bridge_class": bridge})
        found: Fake = made(duty.scenario.load(), name=duty.name, clock=self.clock, **options)
        return found

    def carry_out(self, order: str, *given: Any) -> Any:
        """The answer to an order."""
        bridge = self.bridge
        if order in ("report", "follow", "let_in", "rest"):
            return bridge.runner.call(lambda: getattr(bridge, order)(*given))
        match order:
            case "look":
                return bridge.runner.run(bridge.look())
            case "play":
                scenario = given[0].load()
                return bridge.runner.call(lambda: bridge.play(scenario))
            case "reset":
                return self.fake.reset()
            case "kick":
                return self.fake.kick()
            case "clock":
                self.clock.follow(*given)
                return self.clock.due
            case "stop":
                return self._stop()
        raise AssertionError(f"there is no order {order!r}")

    def _stop(self) -> Any:
        """Stop; the last report, and what our own code, and the user's, has raised."""
        end_all([self.fake])
        bridge = self.bridge
        return bridge.recorder.batch(), list(map(repr, bridge.errors)), list(map(repr, bridge.guest_errors))


def _clock(duty: Duty) -> AdjustableClock:
    if not duty.shared:
        return AdjustableClock.at(duty.clock, Stamps(duty.place, duty.zero))
    from notnow.shared.clock import SharedClock

    clock = SharedClock(duty.clock.speed, duty.place)
    clock.epoch = duty.clock.epoch
    clock.show(duty.clock)
    return clock


def main() -> None:
    """`calls`, `orders`, the passage and the socket to listen on are inherited descriptors."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # a terminal, or systemd, sends them to all; orders come
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # the other process has said it
    calls, orders, passage, listening = (socket.socket(fileno=int(text)) for text in sys.argv[1:5])
    line = Line(orders)
    code = 1
    try:
        worker = _ready(line, Line(calls), Passage(passage), listening)
        while True:
            order = line.receive()
            line.send(_carried_out(worker, order))
    except EOFError:
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)  # at once, as a process that is told to stop should; nothing is left to clean up


def _ready(line: Line, calls: Line, passage: Passage, listening: socket.socket) -> Worker:
    duty = line.receive()
    try:
        worker = Worker(duty, calls, passage, listening)
        worker.fake.start()
    except EOFError:
        raise
    except BaseException as error:
        line.send(Failed(str(error), said=True) if isinstance(error, StartError) else Failed(traceback.format_exc()))
        raise EOFError from None
    line.send(None)
    return worker


def _carried_out(worker: Worker, order: tuple[Any, ...]) -> Any:
    try:
        return worker.carry_out(*order)
    except EOFError:
        raise
    except Exception:
        return Failed(traceback.format_exc())


if __name__ == "__main__":
    main()
