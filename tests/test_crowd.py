"""Crowds: what is simulated is exact, and what is known of queues and of back-off comes out."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from notnow.chaos import storm
from notnow.chaos.crowd.figures import Storm, figures
from notnow.chaos.crowd.simulation import ROUND_TRIP, Simulation
from notnow.chaos.crowd.tally import Peak
from notnow.chaos.crowd.terms import terms
from notnow.chaos.policies import calls, policy
from notnow.errors import ScenarioError
from notnow.language import catalogue
from notnow.language.loading import loads
from playbook import BYE, NO, document, phase, rule

HEALTHY = "smtp/healthy"


def run(name: Any, text: Any, **given: Any) -> Storm:
    """A storm whose refusals cost nothing unless it says so."""
    return storm(name, policy=text, **{"refusal_cost": 0, **given})


def conserves(one: Storm) -> None:
    """Each item is through, given up or waiting, and the series add up to the counts."""
    assert one.items == one.through + one.gave_up + one.waiting
    assert sum(one.series.new) == one.items
    assert sum(one.series.through) == one.through
    assert sum(one.series.attempts) == one.attempts
    assert min(one.gave_up, one.waiting, one.held, one.busy, one.abandoned) >= 0
    assert one.attempts >= one.through


# ---- by hand -------------------------------------------------------------------------------------


def test_an_outage_by_hand() -> None:
    """Refused at 0 and 60, through from 120 on: a tenth of a second each."""
    one = run("smtp/overload", "constant(1m)", clients=10, capacity="10/s", outage="100s")
    third = 2 * (60 + ROUND_TRIP)
    assert (one.items, one.through, one.attempts, one.amplification, one.peak) == (10, 10, 30, 3.0, 10)
    assert one.recovered == 100
    assert one.drained == pytest.approx(third + 1 - 100)
    assert one.longest == pytest.approx(third + 1)
    assert one.took == pytest.approx(third + 0.55)
    assert one.goodput == pytest.approx(10 / (third + 1 - 100))
    assert one.drained_within("22s")
    assert not one.drained_within(21)
    assert not one.stays_down
    conserves(one)


def test_abandoned_work_is_done_all_the_same() -> None:
    """One a second, and nobody waits for more than 3 seconds: 3 of 10 come through, and the server works on for 7 more."""
    one = run(HEALTHY, "constant(7s)", clients=10, capacity="1/s", timeout="3s")
    assert (one.through, one.abandoned, one.attempts) == (10, 7 + 4 + 1, 10 + 7 + 4 + 1)
    assert one.ended == pytest.approx(31)
    impatient = run(HEALTHY, "constant(1s)", clients=10, capacity="1/s", timeout="3s", horizon="20m")
    assert (impatient.through, impatient.waiting) == (3, 7)
    assert impatient.stays_down


def test_a_bound_refuses_whom_nobody_would_wait_for() -> None:
    one = run(HEALTHY, "constant(1s)", clients=10, capacity="1/s", queue=2, timeout="3s")
    assert (one.through, one.abandoned) == (10, 0)
    assert one.busy == one.attempts - 10 > 0


def test_refusals_cost_what_they_cost() -> None:
    """100 refusals of a tenth each are ten seconds of work, behind which the last client waits."""
    at_once = rule("connect", first=100, reply=BYE)
    free, dear = (
        run(
            loads(document(at_once), name="s.toml"),
            "constant(1s)",
            clients=101,
            capacity="1/s",
            timeout="9m",
            refusal_cost=cost,
        )
        for cost in (0, "10%")
    )
    assert dear.ended - free.ended == pytest.approx(10, abs=2 * ROUND_TRIP)


def test_attempts_and_time_end_what_never_comes_through() -> None:
    scenario = loads(document(rule("rcpt", reply=NO)), name="s.toml")
    one = run(scenario, "constant(10s) + attempts(4)", clients=5)
    assert (one.gave_up, one.attempts, one.refused, one.recovered) == (5, 20, 20, pytest.approx(30.17, abs=0.03))
    assert run(scenario, "constant(10s) + within(35s)", clients=5).attempts == 25
    forever = run(scenario, "constant(10s)", clients=5, horizon="101s")
    assert (forever.waiting, forever.attempts, forever.ended, forever.recovered) == (5, 55, 101, None)
    assert not forever.stays_down


def test_what_is_refused_for_good_is_not_asked_again() -> None:
    one = run(loads(document(rule("rcpt", reply="550 5.1.1 no such user")), name="s.toml"), "constant(1s)", clients=7)
    assert (one.gave_up, one.attempts) == (7, 7)


def test_a_silent_server_costs_the_time_out() -> None:
    silent = document(phase(rule("connect", stall=True), lasts="1m"), phase())
    one = run(loads(silent, name="s.toml"), "constant(10s)", clients=3, timeout="20s", capacity="3/s")
    assert (one.attempts, one.abandoned, one.refused) == (9, 6, 6)
    assert one.ended == pytest.approx(60 + 1)


def test_retry_after_is_heeded_by_a_policy_that_says_so() -> None:
    """http/overload tells when it is over; a client that does not listen asks 60 times."""
    hasty, polite = (
        run("http/overload", text, clients=20, outage="1m") for text in ("constant(1s)", "constant(1s) + retry_after()")
    )
    assert polite.amplification == 2
    assert 55 < hasty.amplification < 60
    dated = run("http/overload", "constant(1s) + retry_after()", clients=20, outage="1m", retry_after="date")
    assert dated.amplification == 2


def test_a_recovery_that_no_client_sees_is_one() -> None:
    """All are refused at the start, and come again after the end of the simulation. The outage is over by then."""
    one = run("smtp/overload", "constant(1h)", clients=9, outage="10m", horizon="20m")
    assert (one.recovered, one.ended, one.drained, one.waiting) == (600, 1200, None, 9)
    assert run("smtp/overload", "constant(1h)", clients=9, outage="10m", horizon="599s").recovered is None


def test_the_phase_that_waits_for_connections_moves_on() -> None:
    scenario = loads(document(phase(rule("connect", reply=BYE), until={"connect": 30}), phase()), name="s.toml")
    one = run(scenario, "constant(5s)", clients=10)
    assert (one.attempts, one.refused) == (40, 30)
    assert one.recovered == pytest.approx(2 * (5 + ROUND_TRIP))


def test_a_guard_that_holds_costs_the_server_nothing() -> None:
    one = run("smtp/overload", "constant(1s) + breaker(3, open=1m)", clients=10, outage="10m")
    assert one.attempts < 10 * (3 + 11)
    assert one.held > 0
    conserves(one)


def test_new_items_do_not_count_for_the_drain_and_old_ones_do() -> None:
    """The last item that came before the recovery, at 30 s, is through a minute after it came; those after it at once."""
    given: dict[str, Any] = {"arrivals": "2/s", "outage": "30s", "horizon": "5m", "capacity": "100/s"}
    one = run("smtp/overload", "constant(1m)", clients=10, **given)
    assert one.recovered == 30
    assert one.drained is not None
    assert 58 < one.drained < 60 + ROUND_TRIP + 0.1
    assert not one.stays_down


def test_one_late_item_does_not_hide_when_the_others_were_through() -> None:
    """19 of 20 items have a second try soon after the recovery, at 100 s; the last one half an hour later."""
    waits = iter([101.0] * (calls.FIRST + 19) + [1900.0])  # the first ones are tried before the simulation
    one = run("smtp/overload", lambda attempt: next(waits, 0), clients=20, capacity="10/s", outage="100s")
    first = 101 + ROUND_TRIP - 100
    assert (one.mostly_drained, one.drained) == (pytest.approx(first + 1.9), pytest.approx(first + 1799.1))


def test_the_drain_is_of_the_recovery_also_where_more_phases_follow() -> None:
    """Two items, refused until 30 s and through at 40; what comes in the phase after that is not the cause's."""
    calm = document(phase(rule("connect", reply=BYE), lasts="30s"), phase(lasts="10m"), phase())
    one = run(loads(calm, name="s.toml"), "constant(40s)", clients=5, arrivals="1/s", horizon="30m", capacity="100/s")
    assert one.recovered == 30
    assert one.drained is not None
    assert one.mostly_drained is not None
    assert 35 < one.mostly_drained < one.drained < 40.1


@pytest.mark.parametrize("outage", ["100s", "100.5s", "101s"])
@pytest.mark.parametrize("horizon", ["1d", "90d"])
def test_goodput_counts_from_the_recovery_wherever_it_is_in_a_bin(outage: str, horizon: str) -> None:
    """100 items come again at 102 s, at 10 a second: the last is through at 112 s. Bins are 1 and 90 seconds wide."""
    given: dict[str, Any] = {"clients": 100, "capacity": "10/s", "timeout": "1m", "outage": outage, "horizon": horizon}
    one = run("smtp/overload", "constant(101.95s)", **given)
    assert one.recovered is not None
    assert one.goodput == pytest.approx(100 / (112 - one.recovered))


@pytest.mark.parametrize(
    ("times", "most"), [([0, 1, 2], 1), ([0, 0.5, 0.9, 1.0, 1.4, 3], 4), ([5, 5, 5.99, 6, 6], 3), ([], 0)]
)
def test_the_peak_is_of_any_second(times: list[float], most: int) -> None:
    peak = Peak()
    for at in times:
        peak.add(at)
    assert peak.most == most


# ---- known results -------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_an_item_takes_as_long_as_in_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine: the mean wait of Poisson arrivals at a deterministic server is rho / (2 mu (1 - rho))."""
    one = run(HEALTHY, "constant(1s)", clients=50, capacity="100/s", arrivals=100 * load, timeout="1h", horizon="10m")
    assert one.took == pytest.approx(0.01 + load / (200 * (1 - load)), rel=0.06)
    assert one.items == pytest.approx(100 * load * 600, rel=0.02)


def test_the_server_never_exceeds_its_capacity() -> None:
    one = run(
        "smtp/overload",
        "exponential(1s, cap=1m, jitter=full)",
        clients=2000,
        capacity="20/s",
        outage="1m",
        timeout="1h",
    )
    assert max(one.series.through) <= 21
    assert one.drained == pytest.approx(2000 / 20, rel=0.05)


@pytest.mark.parametrize("share", [1e-7, 0.123456789, 5e-324, 1])
def test_a_share_of_any_size_is_that_of_a_scenario(share: float) -> None:
    found = terms("smtp/busy", **{**_TERMS, "refusal_cost": share})
    assert found.capacity.refusal_cost == pytest.approx(share, abs=1e-12)


def test_jitter_as_the_aws_architecture_blog_has_it() -> None:
    """Contending clients: without jitter far more attempts and time; full jitter ends sooner than equal jitter."""

    def mean(jitter: str) -> tuple[float, float]:
        text = f"exponential(100ms, cap=5s, jitter={jitter})"
        found = [
            run(HEALTHY, text, clients=100, capacity="20/s", queue=0, timeout="1m", seed=seed) for seed in range(8)
        ]
        return sum(one.attempts for one in found) / 8, sum(one.longest for one in found) / 8

    (none, slowest), (equal, slow), (full, quick) = map(mean, ("none", "equal", "full"))
    assert none > 5 * max(equal, full)
    assert slowest > 5 * slow > 5 * quick


def test_a_capacity_that_is_put_in_works_as_that_of_a_scenario() -> None:
    """smtp/busy has its own capacity and its own rule for a full queue; smtp/overload gets both from the terms."""
    given: dict[str, Any] = {"clients": 300, "capacity": "10/s", "queue": 20, "refusal_cost": "10%", "outage": "1m"}
    for text in ("constant(10s)", "exponential(base=5s, cap=5m, jitter=full)"):
        own, ours = (run(name, text, **given) for name in ("smtp/busy", "smtp/overload"))
        assert own == ours
        assert own.through == 300


# ---- metastable ----------------------------------------------------------------------------------

FRESH: dict[str, Any] = {
    "clients": 50, "capacity": "10/s", "arrivals": "7/s", "timeout": "10s", "outage": "1m", "horizon": "10m",
}  # fmt: skip
PATIENT = "exponential(1s, cap=1m, jitter=full)"


def last_half(one: Storm) -> float:
    """The items that came through in the second five minutes, as a share of those that came then."""
    return sum(one.series.through[300:]) / sum(one.series.new[300:])


def test_a_server_stays_down_after_its_cause_has_gone() -> None:
    """Bronson et al., HotOS 2021: 70 % load, and retries of work that nobody waits for any more keep it at 100 %."""
    one = storm("smtp/overload", policy="constant(1s)", **FRESH)
    assert one.stays_down
    assert one.drained is None
    assert last_half(one) == 0
    conserves(one)


@pytest.mark.parametrize(
    "cure",
    ["attempts(4)", "budget(10%)", "grpc()", "throttle()", "tokens(11/m)", "breaker(5, open=30s) + attempts(20)"],
)
def test_what_ends_a_metastable_storm(cure: str) -> None:
    one = storm("smtp/overload", policy=f"constant(1s) + {cure}", **FRESH)
    assert not one.stays_down
    assert last_half(one) > 0.9
    conserves(one)


def test_jitter_does_not_end_it_and_a_bound_does_if_refusals_are_cheap() -> None:
    assert storm("smtp/overload", policy=PATIENT, **FRESH).stays_down
    assert storm("smtp/overload", policy=PATIENT, queue=50, refusal_cost="10%", **FRESH).stays_down
    cheap = storm("smtp/overload", policy=PATIENT, queue=50, refusal_cost="1%", **FRESH)
    assert not cheap.stays_down
    assert last_half(cheap) > 0.9


# ---- always --------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    wait=st.sampled_from(["constant(3s)", "exponential(1s, cap=1m, jitter=decorrelated)", "waits(0, 5s)", "linear(1s, 1s)"]),
    more=st.sampled_from(["", " + attempts(5)", " + within(40s)", " + budget(20%)", " + breaker(2, 9s)", " + throttle()", " + tokens(1/s)"]),
    capacity=st.integers(1, 30),
    queue=st.none() | st.integers(0, 30),
    cost=st.floats(0, 1),
    timeout=st.integers(1, 60),
    arrivals=st.none() | st.integers(1, 20),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_nothing_is_lost_and_nothing_differs(wait: str, more: str, capacity: int, cost: float, **given: Any) -> None:
    def once() -> Storm:
        return storm(
            "smtp/overload",
            policy=wait + more,
            clients=25,
            capacity=capacity,
            refusal_cost=cost,
            outage="20s",
            horizon="3m",
            **given,
        )

    one = once()
    conserves(one)
    assert once() == one
    assert one.items == 25 or given["arrivals"]
    assert one.ended <= 180
    if one.drained is not None:
        assert one.mostly_drained is not None
        assert 0 <= one.mostly_drained <= one.drained


@pytest.mark.parametrize("name", catalogue.names())
def test_every_scenario_can_be_a_storm(name: str) -> None:
    one = storm(name, policy="exponential(5s, cap=10m, jitter=full) + attempts(12)", clients=20, horizon="3h")
    conserves(one)
    assert one.attempts >= one.through


def test_another_seed_is_another_storm() -> None:
    first, second = (run("smtp/overload", "exponential(1s, jitter=full)", clients=50, seed=seed) for seed in (1, 2))
    assert first.series != second.series


def test_the_users_chance_is_seeded_and_left_as_it_was() -> None:
    def own(attempt: int) -> float:
        return random.uniform(0, attempt)

    random.seed(11)
    before = random.getstate()
    first, second = (run("smtp/overload", own, clients=30, seed=4) for _ in range(2))
    assert first == second
    assert random.getstate() == before
    assert first.policy.endswith("own")


def test_a_wait_that_fails_later_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"it returned -2 after attempt 12; allowed: seconds from 0 on"):
        run(
            "smtp/overload",
            lambda attempt: 10 - attempt if attempt > 10 and attempt != 11 else 1,
            clients=2,
            outage="1h",
        )


def test_clients_that_come_too_often_are_cut_short() -> None:
    found = terms("smtp/overload", **{**_TERMS, "outage": "1h"})
    one = figures(Simulation(structs.replace(found, most=500), policy("constant(0)")).run())
    assert one.cut
    assert one.attempts == 500
    assert one.ended < 60
    conserves(one)


# ---- terms ---------------------------------------------------------------------------------------

_TERMS: dict[str, Any] = {
    "clients": 10, "capacity": None, "refusal_cost": None, "queue": None, "outage": None, "arrivals": None, "spread": 0,
    "timeout": 30, "horizon": None, "seed": 0, "knobs": {},
}  # fmt: skip


def test_terms_of_a_scenario_are_those_of_its_server() -> None:
    found = terms("smtp/busy", **{**_TERMS, "queue": 7})
    assert (found.capacity.rate, found.capacity.queue, found.capacity.refusal_cost) == (10, 7, 0.1)
    usual = terms("smtp/overload", **_TERMS)
    assert (usual.capacity.rate, usual.capacity.queue, usual.capacity.refusal_cost) == (200, None, 0.1)
    assert (usual.horizon, terms("smtp/overload", **{**_TERMS, "arrivals": "5/s"}).horizon) == (86400, 3600)


def test_items_are_spread() -> None:
    one = run(HEALTHY, "constant(1s)", clients=600, spread="1m")
    assert min(one.series.new[:60]) > 0
    assert max(one.series.new) < 40


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"capacity": 0}, "capacity: it is 0; allowed: a number above 0 per second, minute, hour or day"),
        ({"capacity": "0/s"}, "capacity: it is '0/s'; allowed: a number above 0"),
        ({"capacity": "fast"}, "capacity: it is 'fast'"),
        ({"capacity": float("nan")}, "capacity: it is nan"),
        ({"clients": 0}, "clients: it is 0; allowed: a whole number from 1 to 1000000"),
        ({"clients": True}, "clients: it is true"),
        ({"queue": -1}, "queue: it is -1"),
        ({"refusal_cost": "300%"}, "refusal_cost: it is '300%'; allowed: a share"),
        ({"arrivals": "often"}, "arrivals: it is 'often'"),
        ({"timeout": 0}, "timeout: it is 0; allowed: more than 0"),
        ({"horizon": "soon"}, "horizon: 'soon' is no time"),
        ({"spread": -1}, "spread: it is -1; allowed: 0 or more"),
        ({"spread": "2h", "horizon": "1h"}, "spread: items would come after the horizon; allowed: 1h at most"),
        (
            {"spread": "1m", "arrivals": "5/s"},
            "spread: with arrivals, items come all the time; allowed: one of the two",
        ),
        ({"refusal_cost": [1]}, "refusal_cost: it is [1]; allowed: a share"),
        ({"seed": "x"}, "seed: it is 'x'; allowed: a whole number"),
        ({"seed": float("nan")}, "seed: it is nan; allowed: a whole number"),
    ],
)
def test_terms_that_are_not_allowed_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        terms("smtp/overload", **{**_TERMS, **given})
    assert str(error.value).startswith(said)


def test_an_outage_needs_a_knob_and_a_capacity_may_be_the_scenarios() -> None:
    with pytest.raises(
        ScenarioError, match="outage: smtp/healthy has no knob of this name; allowed: a scenario that has it"
    ):
        storm(HEALTHY, policy="constant(1s)", outage="1m")
    own = loads('protocol = "smtp"\n[server]\ncapacity = "5/s"\n[[phase]]\n', name="own.toml")
    assert storm(own, policy="constant(1s)", clients=10).capacity == 5
    with pytest.raises(
        ScenarioError, match="capacity: the server of own.toml has its own; allowed: to change it there"
    ):
        storm(own, policy="constant(1s)", capacity="9/s")
