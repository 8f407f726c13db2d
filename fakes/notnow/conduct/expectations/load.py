"""The load that a client puts on a server."""

from __future__ import annotations

from notnow.conduct.expectations import unmet
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading.attempts import TOLERANCE
from notnow.conduct.reading.storm import Storm
from notnow.units import seconds, show


def amplification(storm: Storm, at_most: float) -> Finding:
    """The client made at most so many tries an item, on average."""
    expected = f"at most {at_most:g} tries an item"
    if storm.amplification is None:
        return unmet(expected, "the client asked for no item")
    if storm.amplification <= at_most:
        return HELD
    return unmet(expected, f"there were {storm.amplification:.2f}: {storm.in_words()}")


def drained(storm: Storm, within: float | str) -> Finding:
    """The last item came through within this time of the server's recovery."""
    expected = f"the last item to be through within {show(seconds(within))} of the recovery"
    if storm.drained is None:
        return unmet(expected, "nothing came through after a refusal")
    if storm.drained <= seconds(within) + TOLERANCE:
        return HELD
    return unmet(expected, f"it took {show(storm.drained)}")
