"""Fuzz what reads a client's bytes, a scenario or a recording: `python -m tests.fuzz TARGET… [--seconds 60]`, or `all`.

It first replays the kept inputs of a target: its corpus, and all findings. Then it looks for new ones, guided by coverage
where atheris is installed (`pip install 'notnow[fuzz]'`), and at random otherwise. An input that shows a fault is written to
`tests/fuzz/findings/TARGET/`; it stays there, so that the tests replay it for ever. Exit code 1: there was one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import mutating
from tests.fuzz.inputs import CORPUS, FINDINGS, HERE, LONGEST, TARGETS, kept, target, words

PATIENCE = 60  # seconds for one input: a busy machine takes ten for what is nothing
MEMORY = 2_048  # MB of the process


@dataclass
class Tally:
    """What one run came to."""

    target: str
    replayed: int
    executions: int = 0
    seconds: float = 0.0
    coverage: int | None = None
    findings: int = 0

    def __str__(self) -> str:
        covered = "not measured" if self.coverage is None else f"{self.coverage:,} branches"
        return (
            f"{self.target:9} {self.replayed:4} replayed {self.executions:10,} executions {self.seconds:6.0f} s   "
            f"coverage {covered:16} {self.findings} findings"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="TARGET", choices=[*TARGETS, "all"], help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target; 0 only replays  [default: 60]")
    parser.add_argument("--unguided", action="store_true", help="do not use atheris")
    parser.add_argument("--grow", metavar="DIR", type=Path, help="keep inputs that reach something new here")
    asked = parser.parse_args()
    guides = importlib.util.find_spec("atheris") is not None and not asked.unguided
    tallies = []
    for name in TARGETS if "all" in asked.targets else asked.targets:
        tally = Tally(name, _replay(name))
        if asked.seconds:
            (_guided if guides else _unguided)(tally, asked.seconds, asked.grow)
        print(tally, flush=True)
        tallies.append(tally)
    return int(any(tally.findings for tally in tallies))


def _replay(name: str) -> int:
    """Run the kept inputs; one that fails ends everything, with its name."""
    one = target(name)
    for file in kept(name):
        try:
            one(file.read_bytes())
        except Exception:
            print(f"{file} shows a fault:")
            raise
    return len(kept(name))


def _unguided(tally: Tally, seconds: float, _grow: Path | None) -> None:
    one, begun = target(tally.target), time.monotonic()
    seeds = [file.read_bytes() for file in kept(tally.target)]
    for data in mutating.changed(seeds, words(tally.target), seed=int(begun)):
        if (passed := time.monotonic() - begun) > seconds:
            break
        tally.executions, tally.seconds = tally.executions + 1, passed
        try:
            one(data)
        except Exception:
            traceback.print_exc()
            tally.findings += 1
            print(f"written: {_write(tally.target, data)}")
            break


def _write(name: str, data: bytes) -> Path:
    file = FINDINGS / name / f"crash-{hashlib.sha1(data).hexdigest()}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def _guided(tally: Tally, seconds: float, grow: Path | None) -> None:
    """libFuzzer ends at the first finding, which it writes; its last lines are its figures."""
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary) / "found"
        corpus = (grow or Path(temporary)) / tally.target
        found.mkdir()
        corpus.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        said = _libfuzzer(tally.target, seconds, corpus, found)
        tally.seconds = time.monotonic() - begun
        new = sorted(found.iterdir())
        if new or "stat::number_of_executed_units" not in said:
            print(said[-6_000:])
        for file in new:
            print(f"written: {_write(tally.target, file.read_bytes())}")
    tally.findings = len(new)
    tally.executions = sum(map(int, re.findall(r"stat::number_of_executed_units:\s*(\d+)", said)))
    tally.coverage = max(map(int, re.findall(r" cov: (\d+)", said)), default=None)


def _libfuzzer(name: str, seconds: float, corpus: Path, found: Path) -> str:
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(corpus), str(CORPUS / name)]
    command += [f"-max_total_time={seconds:.0f}", f"-max_len={LONGEST}", f"-timeout={PATIENCE}", "-print_final_stats=1"]
    command += [f"-report_slow_units={PATIENCE}", f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={found}/"]
    dictionary = HERE / "words" / f"{name}.txt"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    ended = subprocess.run(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return ended.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
