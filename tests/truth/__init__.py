"""Judging the judge: generated clients whose truth is known, against generated scenarios, without sockets.

`wire` is a fake without sockets: the engine decides, and a recorder writes what an adapter would. Each protocol has a
module with a `Program` (what a client does, drawn by Hypothesis), which plays on the wire and returns its `Truth`.
`properties` compares that with the verdict. `python -m tests.truth` counts the wrong verdicts of thousands of clients.
"""
