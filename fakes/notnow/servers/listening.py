"""Where a fake listens: as plain data, and as a command that tries it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from notnow import protocols

if TYPE_CHECKING:
    from notnow.servers.base.fake import Fake


def listening(fake: Fake) -> dict[str, Any]:
    """What `serve --json` says first of a server. `ca_file` is None if the server does not speak TLS."""
    return {
        "event": "listening",
        "name": fake.name,
        "scenario": fake.scenario.name,
        "protocol": fake.protocol,
        "host": fake.host,
        "port": fake.port,
        "url": fake.url,
        "ca_file": _ca(fake),
        "seed": fake.seed,
    }


def try_line(fake: Fake) -> str:
    """A shell command that tries the fake, with a client that this machine has, if any."""
    fitting = [sample for sample in protocols.get(fake.protocol).samples if fake.tls in sample.tls]
    sample = next((one for one in fitting if shutil.which(one.program)), fitting[-1])
    line = sample.command + sample.tls[fake.tls]
    return line.format(url=fake.url, server=fake.url.partition("://")[2], ca=_ca(fake))


def _ca(fake: Fake) -> str | None:
    """The path of the CA that clients should trust; None if the server does not speak TLS."""
    return None if fake.tls == "none" else fake.ca_file
