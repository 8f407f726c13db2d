"""The limits of a scenario, at the last value that the protocols carry and at the first that they do not."""

from __future__ import annotations

import pytest

from notnow.language import limits
from notnow.language.limits import FIELD, FRAME, HOST, PATH


def test_the_numbers_are_those_of_the_standards() -> None:
    assert (limits.SETTING, limits.STREAM) == (4_294_967_295, 2_147_483_647)  # RFC 9113 §6.5.1, §5.1.1
    assert (FRAME, HOST, PATH, limits.CODES) == (16_384, 253, 255, (400, 599))
    assert (FIELD, limits.NAMES, limits.FILE) == (65_536, 100, 1_000_000_000)


@pytest.mark.parametrize(
    ("name", "ascii"),
    [
        ("a.test", "a.test"),
        ("*.a.test", "*.a.test"),
        ("büro.test", "xn--bro-hoa.test"),
        ("BÜRO.test", "xn--bro-hoa.test"),
    ],
)
def test_a_name_in_ascii(name: str, ascii: str) -> None:
    assert limits.idna_name(name) == ascii


LONGEST = ".".join(["a" * 61] * 4) + ".tests"  # of 253 octets


@pytest.mark.parametrize("name", ["a.test", "*.a.test", "192.0.2.1", "2001:db8::1", LONGEST])
def test_a_name_of_a_certificate(name: str) -> None:
    assert limits.is_certifiable(name)


@pytest.mark.parametrize(
    "name", ["fe80::1%eth0", "a@b.test", "a b.test", "https://a.test", LONGEST + "s", "a..test", ""]
)
def test_a_name_that_no_certificate_has(name: str) -> None:
    assert limits.is_certifiable(name) is False


def origins(octets: int) -> list[str]:
    """Origins that take so many octets of a frame, each with the two of its length (RFC 8336 §2)."""
    full = "https://" + "a" * 190  # 200 with its length
    return [full] * (octets // 200) + (["https://" + "a" * (octets % 200 - 10)] if octets % 200 else [])


@pytest.mark.parametrize(
    "fits",
    [
        ["https://a.test", "http://a.test:8443", "https://[2001:db8::1]:65535"],
        ["https://{host}:{port}"],
        ["https://" + "a" * HOST + ":65535"],
        origins(FRAME - HOST),
    ],
)
def test_origins_that_a_frame_carries(fits: list[str]) -> None:
    assert limits.origin_fault(fits) is None


@pytest.mark.parametrize(
    ("origins", "fault"),
    [
        (["a.test"], "not 'a.test'"),
        (["https://a.test", "https://a.test/path"], "not 'https://a.test/path'"),
        (["https://a.test:65536"], "not 'https://a.test:65536'"),
        (["https://" + "a" * (HOST + 1) + ":65535"], "origins such as"),
        (origins(FRAME - HOST + 1), "origins that fit into one frame of 16384 octets"),
    ],
)
def test_origins_that_none_carries(origins: list[str], fault: str) -> None:
    assert fault in (limits.origin_fault(origins) or "")


@pytest.mark.parametrize("value", ["clear", 'h2="alt.test:443"; ma=60', "x" * (FRAME - 2 * HOST)])
def test_an_alternative_service_that_is_sent(value: str) -> None:
    assert limits.altsvc_fault(value) is None


@pytest.mark.parametrize(
    ("value", "fault"),
    [("\u20ac", "printable ASCII"), ("a\nb", "printable ASCII"), ("a ", "printable ASCII"), (" a", "printable ASCII")],
)
def test_one_that_is_not(value: str, fault: str) -> None:
    assert fault in (limits.altsvc_fault(value) or "")


def test_one_that_is_too_long_for_a_frame() -> None:
    assert limits.altsvc_fault("x" * (FRAME - 2 * HOST + 1)) == "at most 15878 octets: it is one frame"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "x" * FIELD),
        ("x", "caf\u00e9"),
        ("Content-Length", "9" * 18),
        ("content-length", "{retry}"),
        ("transfer-encoding", "Chunked"),
        ("te", "trailers"),
    ],
)
def test_a_field_that_is_sent(name: str, value: str) -> None:
    assert limits.field_fault(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("x", "x" * (FIELD + 1), "header values of at most 65536 octets"),
        ("x", "\u20ac", "header values in ISO 8859-1"),
        ("Content-Length", "9" * 19, "content-length as a number of bytes (RFC 9110 §8.6), not Content-Length = '999"),
        ("transfer-encoding", "gzip", "chunked as the one transfer-encoding"),
        ("te", "gzip", "trailers as the one value of te"),
    ],
)
def test_a_field_that_is_not(name: str, value: str, fault: str) -> None:
    assert fault in (limits.field_fault(name, value) or "")


@pytest.mark.parametrize("name", ["a b", "caf\u00e9", "a\u200cb", "\u200db", "Screenshot 9.41\u202fAM.png", ""])
def test_a_clean_name(name: str) -> None:
    assert limits.is_clean(name)


@pytest.mark.parametrize("name", ["a\nb", "\r", "a\x7f", "a\u2028b"])
def test_a_name_that_would_make_two_lines(name: str) -> None:
    assert not limits.is_clean(name)


@pytest.mark.parametrize(
    ("name", "path"), [("a", "/a"), ("/a/", "/a"), ("//a/../b//c", "/b/c"), ("", "/"), ("..", "/")]
)
def test_the_path_of_a_file(name: str, path: str) -> None:
    assert limits.file_path(name) == path


@pytest.mark.parametrize(
    "names", [["a", "b/c", "b/d", "b/", "e/"], ["b/", "b/c"], ["/", "a"], ["x" * PATH + "/" + "y" * PATH]]
)
def test_names_that_make_a_tree(names: list[str]) -> None:
    assert list(limits.tree_faults(names)) == []


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["a/", "a"], ("a", "'a' is a directory")),
        (["a/b", "a"], ("a", "'a' is a directory")),
        (["a", "a/"], ("a/", "'a' is a file: it cannot be a directory, as 'a/' wants it")),
        (["a", "a/b/c"], ("a/b/c", "'a' is a file: it cannot be a directory, as 'a/b/c' wants it")),
        (["a\nb"], ("a\nb", "'a\\nb' is not the name of a file: there are control characters in it")),
        ([""], ("", "'' is not the name of a file: there is nothing in it")),
        (["a", "b/" + "\u00e9" * 128], ("b/" + "\u00e9" * 128, f"{'b/' + 'é' * 128!r:.60} is too long: a component of a path has at most 255 bytes")),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_in_it(names: list[str], fault: tuple[str, str]) -> None:
    assert list(limits.tree_faults(names)) == [fault]
