"""Rules of conduct for HTTP clients.

A request that comes again is told by its method and URL, from the same client. Where answers take no time, the same
request in parallel looks the same.
"""

from notnow.conduct.rules.http import alternatives, failures, misdirected, names
from notnow.conduct.rules.rule import rules_of

RULES = rules_of(misdirected, names, alternatives, failures)
