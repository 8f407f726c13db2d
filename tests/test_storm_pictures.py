"""The load of a storm over time, as columns of a picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from notnow.chaos import storm
from notnow.chaos.crowd.picture import rates
from notnow.chaos.crowd.writing import svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 10])
def test_a_steady_load_is_level_whatever_the_columns(columns: int) -> None:
    assert rates([6] * 10, 2.0, 20.0, columns) == [3.0] * columns


def test_bins_that_are_not_there_are_empty() -> None:
    assert rates([4, 4], 1.0, 8.0, 4) == [4.0, 0.0, 0.0, 0.0]


def test_what_comes_after_the_end_is_left_out() -> None:
    assert rates([1, 1, 9], 1.0, 2.0, 2) == [1.0, 1.0]


def test_an_svg_has_a_row_for_each_policy() -> None:
    policies = ("constant(1m)", "constant(2m)")
    storms = [storm("smtp/busy", policy=text, clients=20, outage="10s") for text in policies]
    root = ElementTree.fromstring(svg(storms, "20 < 30 clients"))
    assert root.findtext(f"{SVG}title") == "20 < 30 clients"
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert all(text in said for text in policies)
    assert [path.get("class") for path in root.iter(f"{SVG}path")].count("through") == 2
