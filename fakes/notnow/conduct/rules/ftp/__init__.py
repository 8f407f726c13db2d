"""Rules of conduct for FTP clients."""

from notnow.conduct.rules.ftp import (
    certificates,
    pieces,
    reconnecting,
    repeating,
    replies,
    restraint,
    resuming,
    session,
    silence,
)
from notnow.conduct.rules.rule import rules_of

RULES = rules_of(session, replies, reconnecting, repeating, resuming, restraint, pieces, silence, certificates)
