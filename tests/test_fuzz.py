"""Every kept input of the fuzzers is replayed, and some hundred more are made of them, without a guide.

`python -m tests.fuzz all --seconds 600` looks for more.
"""

from __future__ import annotations

from itertools import islice

import pytest
from tests.fuzz import mutating, offline
from tests.fuzz.inputs import CORPUS, HERE, TARGETS, kept, target, words
from tests.fuzz.oracles import codes

MOST = 200_000  # bytes of all kept inputs
CHANGED = {"control": 30, "quic": 2_000, "scenario": 150}
USUAL = 80


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    one = target(name)
    assert list((CORPUS / name).iterdir())
    for file in kept(name):
        one(file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs(name: str) -> None:
    """Always the same ones, so that a failure is one of the change that caused it."""
    one, seeds = target(name), [file.read_bytes() for file in kept(name)]
    for data in islice(mutating.changed(seeds, words(name)), CHANGED.get(name, USUAL)):
        one(data)


@pytest.mark.parametrize("name", ["ftp", "http11", "http2", "smtp"])
def test_what_an_input_does_depends_on_no_clock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> float:
        raise AssertionError("a clock of the processor is read")

    monkeypatch.setattr("time.thread_time", read)
    for file in kept(name):
        target(name)(file.read_bytes())


def test_they_are_small() -> None:
    files = [
        file for folder in ("corpus", "findings", "words") for file in (HERE / folder).rglob("*") if file.is_file()
    ]
    assert sum(file.stat().st_size for file in files) < MOST


@pytest.mark.parametrize(
    "heard", [b"250 a\r250 b\r\n", b"250 a\n", b"250-a\r\n251 b\r\n", b"999 a\r\n", b"250 \x1b[31m\r\n", b"250"]
)
def test_what_is_no_reply_is_seen(heard: bytes) -> None:
    with pytest.raises(AssertionError):
        codes(heard)


def test_a_fake_that_never_rests_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def again() -> None:
        offline.LOOP.call_soon(again)

    monkeypatch.setattr(offline, "STEPS", 1_000)
    offline.LOOP.call_soon(again)
    with pytest.raises(offline.Hang):
        offline.LOOP.settle()
    offline.LOOP._ready.clear()  # type: ignore[attr-defined]
