"""Tables as records: what a class with keys is, and every mistake that the reader finds in a raw table."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from notnow.language.tables import (
    InvalidError,
    MissingKey,
    RefusedError,
    Table,
    UnknownKey,
    a_table,
    by_name,
    key,
    list_of,
    read,
    refuse,
    replace,
    required,
)
from notnow.language.values import Count, Text


class Leg(Table):
    """A leg."""

    joints: int = required(Count, "bends", about="How many joints it has.")


class Seat(Table):
    """A seat."""

    cover: str = key(Text, about="What it is covered with.", default="linen")


class Chair(Seat, Leg):
    """A chair."""

    name: str | None = key(Text, about="Its name.")
    leg: list[Leg] = key(list_of(a_table(Leg)), about="Its legs.", factory=list)
    part: dict[str, Leg] = key(by_name(a_table(Leg)), about="Its parts.", factory=dict)


def mistakes(given: Any) -> list[tuple[Any, Any, Any]]:
    with pytest.raises(InvalidError) as caught:
        read(Chair, given)
    return [(one.path, one.value, getattr(one.why, "allowed", one.why)) for one in caught.value.mistakes]


class TestRecords:
    def test_the_keys_of_the_bases_come_first_the_last_base_before_the_others(self) -> None:
        assert list(Chair.KEYS) == ["joints", "cover", "name", "leg", "part"]
        assert Chair.KEYS["joints"].marks == ("bends",)

    def test_a_key_that_is_left_out_has_its_default(self) -> None:
        made = Chair(joints=2)
        assert (made.joints, made.cover, made.name, made.leg, made.part) == (2, "linen", None, [], {})
        assert Chair(joints=2).leg is not made.leg

    def test_a_class_has_no_values(self) -> None:
        """Else a key that the constructor forgot would be found on the class, as a `Key`."""
        assert not hasattr(Chair, "cover")

    @pytest.mark.parametrize(
        ("given", "words"),
        [({}, "a Chair needs the key 'joints'"), ({"joints": 1, "arms": 2}, "a Chair has no key 'arms'")],
    )
    def test_a_wrong_call_is_a_type_error(self, given: Any, words: str) -> None:
        with pytest.raises(TypeError, match=words):
            Chair(**given)

    def test_it_is_frozen(self) -> None:
        with pytest.raises(AttributeError, match="'joints' of a Leg cannot be set"):
            Leg(joints=2).joints = 3  # type: ignore[misc]

    def test_it_is_equal_to_one_of_its_class_with_the_same_values(self) -> None:
        class Arm(Leg):
            """An arm."""

        assert Leg(joints=2) == Leg(joints=2)
        assert Leg(joints=2) != Leg(joints=3)
        assert Leg(joints=2) != Arm(joints=2)

    def test_it_is_copied_with_other_values(self) -> None:
        made = Chair(joints=2, name="old")
        assert replace(made, name="new") == Chair(joints=2, name="new")
        assert made.name == "old"
        with pytest.raises(TypeError, match="no key 'arms'"):
            replace(made, arms=2)

    def test_it_survives_copies_and_pickling(self) -> None:
        made = Chair(joints=2, leg=[Leg(joints=3)])
        assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made

    def test_it_shows_its_values(self) -> None:
        assert repr(Leg(joints=2)) == "Leg(joints=2)"


class TestReading:
    def test_values_become_records(self) -> None:
        made = read(Chair, {"joints": 1, "leg": [{"joints": 2}, {"joints": 3}], "part": {"arm": {"joints": 4}}})
        assert made == Chair(joints=1, leg=[Leg(joints=2), Leg(joints=3)], part={"arm": Leg(joints=4)})

    def test_every_mistake_is_found_at_its_path(self) -> None:
        assert mistakes({
            "nmae": "x",
            "name": 5,
            "leg": [{"joints": 1}, {"joints": 0}, {}, 7],
            "part": {"arm": {"joints": "two", "x": 1}},
        }) == [
            (("name",), 5, "text"),
            (("leg", 1, "joints"), 0, "1 or more"),
            (("leg", 2, "joints"), None, MissingKey("How many joints it has.")),
            (("leg", 3), 7, "a table"),
            (("part", "arm", "joints"), "two", "a whole number"),
            (("part", "arm", "x"), 1, UnknownKey(Leg)),
            (("joints",), None, MissingKey("How many joints it has.")),
            (("nmae",), "x", UnknownKey(Chair)),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "value", "allowed"),
        [("leg", {}, "a list"), ("leg", 5, "a list"), ("part", [], "a table"), ("part", "x", "a table")],
    )
    def test_a_container_of_another_type(self, name: str, value: Any, allowed: str) -> None:
        assert mistakes({"joints": 1, name: value}) == [((name,), value, allowed)]

    @pytest.mark.parametrize("value", [5, "x", [], None])
    def test_what_is_no_table_is_refused(self, value: Any) -> None:
        with pytest.raises(RefusedError, match="a table"):
            read(Chair, value)

    def test_the_error_names_the_places(self) -> None:
        with pytest.raises(InvalidError, match=r"^mistakes at leg\[0\]\.joints, joints$"):
            read(Chair, {"leg": [{"joints": 0}]})


def test_a_mistake_says_what_is_allowed() -> None:
    error = refuse("a number or one of these", "mst", ("must", "should"))
    assert (str(error), error.nearest, error.choices) == ("a number or one of these", "must", ("must", "should"))
