"""Rules of conduct for FTP clients."""

from notnow.conduct.rules.ftp import pieces, reconnecting, replies, restraint, resuming, session, silence
from notnow.conduct.rules.rule import rules_of

RULES = rules_of(session, replies, reconnecting, resuming, restraint, pieces, silence)
