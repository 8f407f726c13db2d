"""The life of a connection: every order of events that may come, and the one clear error for all others."""

from __future__ import annotations

import itertools

import pytest

from notnow.servers.base import life
from notnow.servers.base.life import Client, Event, Life, State, WrongOrderError

STATES = [value for value in vars(life).values() if isinstance(value, State)]


def live(*events: Event) -> Life:
    made = Life()
    for event in events:
        made.advance(event)
    return made


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "OPENING"),
        ((Event.MADE,), "OPEN"),
        ((Event.SHAKE_HANDS,), "HANDSHAKING"),
        ((Event.SHAKE_HANDS, Event.MADE), "OPEN"),
        ((Event.SHAKE_HANDS, Event.LOSE), "CLOSED"),
        ((Event.MADE, Event.SHAKE_HANDS), "UPGRADING"),
        ((Event.MADE, Event.SHAKE_HANDS, Event.MADE), "OPEN"),
        ((Event.MADE, Event.SHAKE_HANDS, Event.FINISH), "CLOSING"),
        ((Event.MADE, Event.STALL), "STALLED"),
        ((Event.MADE, Event.STALL, Event.CONCLUDE), "STALLED"),
        ((Event.MADE, Event.STALL, Event.FINISH), "CLOSING"),
        ((Event.MADE, Event.CONCLUDE), "CONCLUDING"),
        ((Event.MADE, Event.CONCLUDE, Event.STALL, Event.FINISH), "CLOSING"),
        ((Event.MADE, Event.CONCLUDE, Event.DRAIN), "DRAINING"),
        ((Event.MADE, Event.DRAIN, Event.CONCLUDE), "DRAINING"),
        ((Event.MADE, Event.DRAIN, Event.FINISH, Event.LOSE), "CLOSED"),
        ((Event.MADE, Event.LOSE), "CLOSED"),
    ],
)
def test_orders_that_come(events: tuple[Event, ...], state: str) -> None:
    assert live(*events).fake.name == state


@pytest.mark.parametrize(
    ("events", "wrong", "told"),
    [
        ((), Event.FINISH, "a connection that is OPENING cannot FINISH; allowed: SHAKE_HANDS, MADE, LOSE"),
        ((Event.MADE, Event.FINISH), Event.FINISH, "a connection that is CLOSING cannot FINISH; allowed: LOSE"),
        ((Event.MADE, Event.FINISH), Event.STALL, "a connection that is CLOSING cannot STALL; allowed: LOSE"),
        ((Event.MADE, Event.LOSE), Event.LOSE, "a connection that is CLOSED cannot LOSE; allowed: nothing"),
    ],
)
def test_a_wrong_order_is_one_clear_error(events: tuple[Event, ...], wrong: Event, told: str) -> None:
    connection = live(*events)
    before = connection.fake
    with pytest.raises(WrongOrderError) as caught:
        connection.advance(wrong)
    assert str(caught.value) == told
    assert connection.fake is before


def test_every_state_can_be_reached_and_ends() -> None:
    reached = {Life().fake}
    for length in range(1, 4):
        for events in itertools.product(Event, repeat=length):
            try:
                reached.add(live(*events).fake)
            except WrongOrderError:
                continue
    assert reached == set(STATES)
    for state in STATES:
        connection = Life()
        connection.fake = state
        if state is not life.CLOSED:
            connection.advance(Event.LOSE)
        assert connection.fake is life.CLOSED


def test_nothing_is_said_without_a_transport_nor_after_the_last_reply() -> None:
    assert {state.name for state in STATES if state.speaks} == {
        "OPEN", "UPGRADING", "STALLED", "CONCLUDING", "DRAINING",
    }  # fmt: skip
    assert {state.name for state in STATES if state.ending} == {"CONCLUDING", "DRAINING"}
    assert {state.name for state in STATES if not state.alive} == {"OPENING", "HANDSHAKING", "CLOSED"}


def test_the_client_leaves_once() -> None:
    connection = Life()
    assert (connection.leave(), connection.leave(), connection.client) == (True, False, Client.LEAVING)
    connection.end()
    assert (connection.leave(), connection.client) == (False, Client.ENDED)
