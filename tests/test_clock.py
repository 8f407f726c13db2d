"""The clocks. Nobody waits here: a manual clock rings what is due, and a loop of the test's own runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from notnow import ManualClock, NotRunningError, RealClock
from notnow.clock import MANY, AdjustableClock, Stamps


class Server:
    """What a fake is to a clock: its loop is run until it has nothing to do."""

    def __init__(self, clock: ManualClock, loop: asyncio.AbstractEventLoop) -> None:
        self.clock, self.loop, self.begun = clock, loop, 0
        self.arrived: list[float] = []
        clock.join(self)

    def begin(self) -> None:
        self.begun += 1

    def settle(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def arrive(self) -> None:
        self.arrived.append(self.clock.now())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def server(loop: asyncio.AbstractEventLoop) -> Server:
    return Server(ManualClock(), loop)


def test_a_manual_clock_stands_still_until_it_is_advanced() -> None:
    clock = ManualClock()
    assert clock.now() == 0
    clock.advance(90)
    clock.advance("30m")
    assert clock.now() == 1890


def test_alarms_ring_in_the_order_of_their_times_each_at_its_own(server: Server) -> None:
    rung: list[tuple[str, float]] = []
    for when, name in ((30, "c"), (10, "a"), (20, "b"), (99, "later")):
        server.clock.call_at(when, server.loop, lambda name=name: rung.append((name, server.clock.now())))
    server.clock.advance(60)
    assert rung == [("a", 10), ("b", 20), ("c", 30)]
    assert server.arrived == [60]
    assert server.clock.due == 99


def test_what_an_alarm_sets_rings_in_the_same_advance(server: Server) -> None:
    rung: list[float] = []

    def again() -> None:
        rung.append(server.clock.now())
        server.clock.call_at(server.clock.now() + 10, server.loop, again)

    server.clock.call_at(10, server.loop, again)
    server.clock.advance(35)
    assert rung == [10, 20, 30]


def test_a_cancelled_alarm_does_not_ring(server: Server) -> None:
    rung: list[str] = []
    alarm = server.clock.call_at(10, server.loop, lambda: rung.append("cancelled"))
    server.clock.call_at(20, server.loop, lambda: rung.append("kept"))
    alarm.cancel()
    assert server.clock.due == 20
    server.clock.advance(30)
    assert rung == ["kept"]


def test_what_is_due_already_does_not_wait_for_an_advance(server: Server) -> None:
    rung: list[float] = []
    server.clock.advance(10)
    server.clock.call_at(10, server.loop, lambda: rung.append(server.clock.now()))
    server.settle()
    assert rung == [10]


def test_what_is_set_while_the_last_one_rings_is_not_left_behind(server: Server) -> None:
    """As by a thread that is faster than `advance`: it sets an alarm when nothing more seems to be due."""
    rung: list[float] = []
    reach = server.clock._reach

    def late(target: float) -> bool:
        server.clock._reach = reach  # type: ignore[method-assign]
        server.clock.call_at(5, server.loop, lambda: rung.append(server.clock.now()))
        return reach(target)

    server.clock._reach = late  # type: ignore[method-assign]
    server.clock.advance(10)
    assert rung == [5]


def test_scenario_time_begins_with_the_first_advance(server: Server) -> None:
    server.clock.advance(1)
    assert server.begun == 1


def test_a_server_that_parts_is_not_asked_again(server: Server) -> None:
    server.clock.part(server)
    server.clock.advance(1)
    assert server.begun == 0


@pytest.mark.parametrize("by", [-1, "soon", None, "-3s", float("nan"), float("inf")])
def test_what_is_no_time_to_advance_by(by: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        ManualClock().advance(by)  # type: ignore[arg-type]


def test_a_real_clock_runs_at_its_speed() -> None:
    slow, fast = RealClock(), RealClock(speed=1000)
    start, start_fast = slow.now(), fast.now()
    while slow.now() == start:
        pass
    assert fast.now() - start_fast > (slow.now() - start) * 10


@pytest.mark.parametrize("speed", [0, -1])
def test_a_speed_is_above_zero(speed: float) -> None:
    with pytest.raises(ValueError, match="allowed: a number above 0"):
        RealClock(speed)


def test_stamps_number_what_happens_under_one_clock() -> None:
    clock = ManualClock()
    assert [clock.stamp() for _ in range(3)] == [1, 2, 3]


def test_a_real_clock_cannot_be_advanced_and_says_what_can() -> None:
    with pytest.raises(TypeError, match=r"give the fake, or the marker of its test, clock=ManualClock\(\)"):
        RealClock().advance("3s")


@pytest.mark.parametrize("speed", [-1, float("nan")])
def test_what_is_no_speed_of_an_adjustable_clock(speed: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 or more"):
        AdjustableClock(speed)


def test_an_adjustable_clock_runs_and_can_be_advanced(loop: asyncio.AbstractEventLoop) -> None:
    server = Server(AdjustableClock(speed=1000), loop)
    rung: list[str] = []
    server.clock.call_at(server.clock.now() + 20, loop, lambda: rung.append("in real time"))
    server.clock.call_at(server.clock.now() + 36_000, loop, lambda: rung.append("by hand"))
    _until(server, lambda: rung == ["in real time"])
    server.clock.advance("10h")
    assert rung == ["in real time", "by hand"]


def test_an_alarm_that_is_nearer_after_an_advance_rings_in_real_time(loop: asyncio.AbstractEventLoop) -> None:
    server = Server(AdjustableClock(speed=1000), loop)
    rung: list[float] = []
    due = server.clock.now() + 36_000
    server.clock.call_at(due, loop, lambda: rung.append(server.clock.now()))
    server.clock.advance(36_000 - 50)
    _until(server, lambda: bool(rung))
    assert due <= rung[0] < due + 30_000


def test_an_adjustable_clock_of_speed_0_stands_still_until_it_is_advanced(loop: asyncio.AbstractEventLoop) -> None:
    server = Server(AdjustableClock(speed=0), loop)
    rung: list[float] = []
    server.clock.call_at(5, loop, lambda: rung.append(server.clock.now()))
    server.settle()
    assert (server.clock.now(), rung) == (0, [])
    server.clock.advance(10)
    assert (server.clock.now(), rung) == (10, [5])


def test_a_server_that_is_stopped_during_an_advance_holds_nobody_up(loop: asyncio.AbstractEventLoop) -> None:
    clock = AdjustableClock(speed=0)
    gone, other = Server(clock, loop), Server(clock, loop)

    def stopped() -> None:
        raise NotRunningError("this fake is not running")

    gone.begin = gone.settle = gone.arrive = stopped  # type: ignore[method-assign]
    rung: list[float] = []
    clock.call_at(5, loop, lambda: rung.append(clock.now()))
    clock.advance(10)
    assert (rung, other.clock.now()) == ([5], 10)


def test_an_adjustable_clock_forgets_cancelled_alarms(loop: asyncio.AbstractEventLoop) -> None:
    clock = AdjustableClock()
    for _ in range(5 * MANY):
        clock.call_at(clock.now() + 3600, loop, lambda: None).cancel()
    assert len(clock._alarms) <= MANY + 1


def _until(server: Server, holds: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not holds():
            await asyncio.sleep(0)

    server.loop.run_until_complete(asyncio.wait_for(watch(), 10))


# ---- clocks of several processes -----------------------------------------------------------------


def test_numbers_of_several_processes_are_in_the_order_of_time_and_never_the_same() -> None:
    ours = Stamps()
    theirs = [Stamps(ours.take_place(), ours.zero) for _ in range(3)]
    drawn = [next(one) for _ in range(2000) for one in (ours, *theirs)]
    assert len(set(drawn)) == len(drawn)
    for one in (ours, *theirs):
        own = [n for n in drawn if n % Stamps.PLACES == one.place]
        assert own == sorted(own)
        assert len(own) == 2000


def test_a_number_that_is_drawn_later_elsewhere_is_higher() -> None:
    ours = Stamps()
    theirs = Stamps(ours.take_place(), ours.zero)
    for one, other in ((ours, theirs), (theirs, ours)):
        first = next(one)
        while next(other) < first:  # within a microsecond, and by what was drawn ahead of it
            pass
        assert next(other) > first


def test_there_are_no_more_places_than_fit_into_a_number() -> None:
    stamps = Stamps()
    assert [stamps.take_place() for _ in range(Stamps.PLACES - 1)] == list(range(1, Stamps.PLACES))
    with pytest.raises(ValueError, match="more than 255 processes share an order of events"):
        stamps.take_place()


def test_a_clock_shows_the_time_of_another_process_and_follows_it(loop: asyncio.AbstractEventLoop) -> None:
    first = AdjustableClock(speed=0)
    first.advance(100)
    second = AdjustableClock.at(first.origin, Stamps())
    assert (second.now(), second.epoch) == (100, first.epoch)
    server = Server(second, loop)
    rung: list[float] = []
    for when in (110, 130, 170):
        second.call_at(when, loop, lambda: rung.append(second.now()))
    first.advance(50)
    second.follow(first.origin)
    assert (rung, second.now(), second.due) == ([110, 130], 150, 170)
    later = first.origin._replace(advanced=180)
    second.show(later)
    assert (rung, second.now()) == ([110, 130], 180)
    second.follow(later)
    assert (rung, second.now(), server.arrived) == ([110, 130, 180], 180, [150, 180])


def test_a_clock_that_is_set_is_set_in_the_other_process(loop: asyncio.AbstractEventLoop) -> None:
    first = AdjustableClock(speed=1)
    second = AdjustableClock.at(first.origin, Stamps())
    rung: list[float] = []
    second.call_at(3600, loop, lambda: rung.append(second.now()))
    second.show(first.origin._replace(zero=first.origin.zero - 7200))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert [int(at) // 3600 for at in rung] == [2]


def test_a_clock_of_another_process_runs_as_fast() -> None:
    first = AdjustableClock(speed=1000)
    second = AdjustableClock.at(first.origin, Stamps())
    before, seen, after = first.now(), second.now(), first.now()
    assert before <= seen <= after
