"""One target under atheris, in a process of its own: `python -m tests.fuzz.guided TARGET` with the options of libFuzzer."""

from __future__ import annotations

import sys

import atheris

_ADAPTER = ["notnow.servers", "notnow.engine", "notnow.journal"]
# What is measured for each target: the code that reads the bytes, and nothing of what checks the outcome.
MEASURED = {
    "control": ["notnow.control", "starlette"],
    "ftp": [*_ADAPTER, "pyftpdlib"],
    "ftps": [*_ADAPTER, "pyftpdlib"],
    "http11": [*_ADAPTER, "h11", "hypercorn"],
    "http2": [*_ADAPTER, "h2", "hpack", "hyperframe", "hypercorn"],
    "journal": ["notnow.chaos", "notnow.conduct", "notnow.journal"],
    "maillog": ["notnow.chaos"],
    "quic": ["notnow.servers"],
    "scenario": ["notnow.language", "notnow.engine"],
    "smtp": [*_ADAPTER, "aiosmtpd"],
    "tls": _ADAPTER,
}


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=MEASURED[name]):
        from tests.fuzz.inputs import target

        one = target(name)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
