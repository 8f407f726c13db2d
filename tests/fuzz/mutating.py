"""Fuzzing without a guide, where atheris is missing: kept inputs, changed at random with a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.fuzz.inputs import LONGEST

CHANGES = 6  # most changes of one input


def changed(seeds: Sequence[bytes], words: Sequence[bytes], seed: int = 1) -> Iterator[bytes]:
    """Inputs without end, always the same ones for a seed."""
    dice = random.Random(seed)
    while True:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, CHANGES)):
            _change(data, dice, seeds, words)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, dice: random.Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = dice.randint(0, len(data))
    end = min(len(data), at + dice.randint(1, 40))
    match dice.randrange(7):
        case 0 if data:
            data[at - 1] ^= 1 << dice.randrange(8)
        case 1 if data:
            data[at - 1] = dice.randrange(256)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end] * dice.randint(1, 8)
        case 4 if words:
            data[at:at] = dice.choice(words)
        case 5:
            other = dice.choice(seeds)
            begin = dice.randint(0, len(other))
            data[at:] = other[begin:]
        case _:
            data[at:at] = dice.randbytes(dice.randint(1, 8))
