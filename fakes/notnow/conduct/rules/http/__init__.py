"""Rules of conduct for HTTP clients. The ledger tells which requests are retries: `notnow.conduct.reading.http.requests`."""

from notnow.conduct.rules.http import alternatives, failures, goaway, misdirected, names, restraint
from notnow.conduct.rules.rule import rules_of

RULES = rules_of(misdirected, names, alternatives, failures, goaway, restraint)
