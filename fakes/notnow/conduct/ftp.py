"""Rules of conduct for FTP clients."""

from __future__ import annotations

from notnow.conduct.rules import Rule

RULES: tuple[Rule, ...] = ()
