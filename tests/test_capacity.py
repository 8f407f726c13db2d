"""A server of finite capacity: playbooks, and what holds for whatever comes."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.engine.capacity import Capacity, Station


def station(rate: float, refusal_cost: float = 0.0, queue: int | None = None) -> Station:
    return Station(Capacity(rate, refusal_cost, queue))


class TestStation:
    def test_each_unit_waits_for_those_before_it(self) -> None:
        server = station(2)
        assert [server.offer(10.0) for _ in range(3)] == [10.5, 11.0, 11.5]
        assert server.waiting(10.0) == 3
        assert server.waiting(11.25) == 0.5
        assert server.waiting(20.0) == 0

    def test_a_server_at_rest_begins_at_once(self) -> None:
        server = station(2)
        server.offer(0.0)
        assert server.offer(7.0) == 7.5

    def test_so_many_wait_behind_the_one_that_is_being_done(self) -> None:
        server = station(1, queue=2)
        assert [server.offer(0.0) for _ in range(4)] == [1.0, 2.0, 3.0, None]
        assert server.full(0.5)

    def test_a_place_is_free_as_soon_as_a_unit_is_done(self) -> None:
        server = station(10, queue=0)
        now = 0.1 + 0.2  # not 0.3
        assert [server.offer(now), server.offer(now)] == [now + 0.1, None]
        assert server.offer(now + 0.1) == pytest.approx(now + 0.2)

    def test_without_a_bound_nothing_is_refused(self) -> None:
        server = station(1)
        assert [server.offer(0.0) for _ in range(1000)][-1] == 1000.0

    def test_a_refusal_is_work(self) -> None:
        server = station(1, refusal_cost=0.25, queue=10)
        server.refuse(0.0)
        server.refuse(0.0)
        assert server.offer(0.0) == 1.5

    def test_a_refusal_without_a_place_costs_nothing(self) -> None:
        server = station(1, refusal_cost=0.75, queue=0)
        for _ in range(5):
            server.refuse(0.0)
        assert server.waiting(0.0) == 1.5

    def test_a_server_that_only_refuses_does_nothing_else(self) -> None:
        """More than rate/refusal_cost refusals a second leave no time for anything else."""
        server = station(10, refusal_cost=0.1, queue=5)
        done = [at for i in range(10_000) if (at := server.offer(i / 200)) is not None]
        assert len(done) == 6  # those that came before the queue was full

    def test_below_that_the_rest_of_the_time_is_for_work(self) -> None:
        """Of 28 a second, a are accepted: a + 0.1 * (28 - a) = 10."""
        server = station(10, refusal_cost=0.1, queue=5)
        accepted = sum(server.offer(i / 28) is not None for i in range(28 * 1000))
        assert accepted / 1000 == pytest.approx((10 - 2.8) / 0.9, rel=0.002)

    def test_more_than_the_bound_can_be_accepted(self) -> None:
        """A scenario without a rule for a busy server refuses nobody."""
        server = station(1, queue=0)
        assert [server.accept(0.0), server.accept(0.0)] == [1.0, 2.0]

    def test_a_century_of_work_adds_no_rounding(self) -> None:
        server = station(3, queue=0)
        for i in range(30_000):
            assert server.offer(i / 3 + 3e9) is not None, i


# ---- whatever comes ------------------------------------------------------------------------------

GAPS = st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=120)  # in 1/100 s; offer or refuse
CAPACITIES = st.builds(
    Capacity,
    rate=st.sampled_from([0.5, 1.0, 3.0, 10.0, 200.0]),
    refusal_cost=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    queue=st.none() | st.integers(0, 20),
)


class Exact:
    """The same server in fractions, in the most naive way: a list of all work that waits."""

    def __init__(self, capacity: Capacity) -> None:
        self.rate, self.cost = Fraction(capacity.rate), Fraction(str(capacity.refusal_cost))
        self.queue, self.now, self.jobs = capacity.queue, Fraction(0), deque[Fraction]()

    def work_until(self, now: Fraction) -> None:
        span, self.now = (now - self.now) * self.rate, now
        while self.jobs and span:
            done = min(span, self.jobs[0])
            span -= done
            self.jobs[0] -= done
            if not self.jobs[0]:
                self.jobs.popleft()

    def waiting(self) -> Fraction:
        return sum(self.jobs, Fraction(0))

    def offer(self) -> Fraction | None:
        if self.queue is not None and self.waiting() > self.queue:
            self.refuse()
            return None
        self.jobs.append(Fraction(1))
        return self.now + self.waiting() / self.rate

    def refuse(self) -> None:
        if self.cost and (self.queue is None or self.waiting() <= self.queue + 1):
            self.jobs.append(self.cost)


@given(CAPACITIES, GAPS)
def test_it_is_the_exact_server(capacity: Capacity, gaps: list[tuple[int, bool]]) -> None:
    server, exact, now = Station(capacity), Exact(capacity), Fraction(0)
    for gap, refused in gaps:
        now += Fraction(gap, 100)
        exact.work_until(now)
        if refused:
            server.refuse(float(now))
            exact.refuse()
        else:
            done, truth = server.offer(float(now)), exact.offer()
            assert (done is None) == (truth is None)
            assert done is None or done == pytest.approx(float(truth or 0), abs=1e-9)
        assert server.waiting(float(now)) == pytest.approx(float(exact.waiting()), abs=1e-6)


@given(CAPACITIES, GAPS)
def test_order_is_kept_and_no_window_has_more_than_the_capacity(
    capacity: Capacity, gaps: list[tuple[int, bool]]
) -> None:
    server, now = Station(capacity), 0.0
    ends: list[float] = []
    for gap, _ in gaps:
        now += gap / 100
        done = server.offer(now)
        if done is not None:
            assert done >= now + 1 / capacity.rate - 1e-9
            ends.append(done)
    assert all(after - before >= 1 / capacity.rate - 1e-9 for before, after in pairwise(ends))
    for i, first in enumerate(ends):  # every window that begins with the end of a unit
        for n, last in enumerate(ends[i:]):
            assert n <= (last - first) * capacity.rate + 1e-6


@given(CAPACITIES, GAPS)
def test_work_is_conserved(capacity: Capacity, gaps: list[tuple[int, bool]]) -> None:
    """What has come is done or waits, and the server rests only while nothing waits."""
    server, now, came, rested = Station(capacity), 0.0, 0.0, 0.0
    for gap, _ in gaps:
        rested += max(0.0, now + gap / 100 - max(now, server.free_at))
        now += gap / 100
        before = server.waiting(now)
        server.offer(now)
        came += server.waiting(now) - before
        assert server.waiting(now) <= (capacity.queue or 0) + 2 or capacity.queue is None
    assert came - server.waiting(now) == pytest.approx((now - rested) * capacity.rate, abs=1e-6)
