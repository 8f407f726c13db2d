"""Durations, shares, sizes and rates as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notnow import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("350ms", 0.35),
        ("36500d", units.LONGEST),
        ("0s", 0),
        ("30s", 30),
        ("1.5m", 90),
        ("10m", 600),
        ("2h", 7200),
        ("5d", 432000),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    span = units.parse_duration(text)
    assert span == pytest.approx(seconds)
    assert isinstance(span, units.Span)


@pytest.mark.parametrize(
    "value",
    [
        "30",
        "s",
        "10 m",
        "-5s",
        "1h30m",
        "",
        30,
        None,
        True,
        "10M",
        "5s\n",
        "٣s",
        "36501d",
        "9" * 400 + "s",
        timedelta(-1),
    ],
)
def test_what_is_no_duration(value: object) -> None:
    assert units.parse_duration(value) is None


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("20%", 0.2), ("12.5%", 0.125), ("100%", 1.0)])
def test_percentages_are_read(text: str, share: float) -> None:
    assert units.parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize("value", ["101%", "20", "-1%", 0.2, None, "20%\n", "9" * 400 + "%"])
def test_what_is_no_percentage(value: object) -> None:
    assert units.parse_percent(value) is None


@pytest.mark.parametrize(("value", "seconds"), [(60, 60), (0.5, 0.5), ("10m", 600), (timedelta(hours=1), 3600)])
def test_seconds_of_a_number_a_duration_or_a_timedelta(value: object, seconds: float) -> None:
    assert units.seconds(value) == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["soon", True, "10", float("inf"), float("nan")])
def test_seconds_of_anything_else_name_what_is_allowed(value: object) -> None:
    with pytest.raises(ValueError, match=r"is no time; allowed: seconds as a number, or a number and a unit"):
        units.seconds(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0s"),
        (0.35, "350ms"),
        (12.5, "12.5s"),
        (0.0004, "0s"),
        (0.9994, "999ms"),
        (0.9999, "1s"),
        (59.994, "59.99s"),
        (59.999, "1m"),
        (60, "1m"),
        (3599.7, "1h"),
        (61, "1m 1s"),
        (3600, "1h"),
        (7500, "2h 5m"),
        (86400, "1d"),
        (90000, "1d 1h"),
        (432000, "5d"),
    ],
)
def test_spans_are_shown_for_readers(span: float, text: str) -> None:
    assert units.show(span) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("1B", 1),
        ("512B", 512),
        ("3MB", 3_000_000),
        ("1.5KB", 1500),
        ("2GB", 2 * 10**9),
        ("0.5B", 0),
        ("1.0006KB", 1001),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    found = units.parse_size(text)
    assert found == size
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    ["3", "MB", "3 MB", "-3MB", "3mb", "3MB\n", "٣MB", "", "3TB", "9" * 400 + "B", "1e3MB", 3, 3.0, True, None, b"3MB"],
)
def test_what_is_no_size(value: object) -> None:
    assert units.parse_size(value) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1 KB"), (1500, "1.5 KB"), (14_400, "14.4 KB"), (999_499, "999 KB"),
        (999_999, "1 MB"), (3_000_000, "3 MB"), (1_234_567, "1.23 MB"), (999_999_999, "1 GB"), (10**9, "1 GB"), (5 * 10**12, "5000 GB"),
    ],
)  # fmt: skip
def test_sizes_are_shown_for_readers(size: int, text: str) -> None:
    assert units.show_size(size) == text


@pytest.mark.parametrize("text", ["1 KB", "1.5 KB", "3 MB", "250 MB", "2 GB"])
def test_what_is_shown_can_be_read_again(text: str) -> None:
    size = units.parse_size(text.replace(" ", ""))
    assert size is not None
    assert units.show_size(size) == text


@pytest.mark.parametrize(
    ("text", "rate"), [("200/s", 200.0), ("90/m", 1.5), ("0.5/s", 0.5), ("36/h", 0.01), ("1/d", 1 / 86400)]
)
def test_rates_are_read(text: str, rate: float) -> None:
    assert units.parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    "value", ["0/s", "200", 200, "/s", "200/ms", "-1/s", "1000001/s", "200/s\n", "9" * 400 + "/s", None]
)
def test_what_is_no_rate(value: object) -> None:
    assert units.parse_rate(value) is None


@pytest.mark.parametrize("text", ["200/s", "1/s", "1000000/s", "0.5/d", "30/m", "59/h"])
def test_a_rate_is_shown_as_it_is_written(text: str) -> None:
    rate = units.parse_rate(text)
    assert rate is not None
    assert units.show_rate(rate) == text
