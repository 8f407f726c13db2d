"""Rules of conduct for SMTP clients.

Not judged: that a 5yz to MAIL is not remembered against other messages (RFC 5321 §4.5.4.1). A client that does remember
it stops sending, and a server cannot see its queue.
"""

from notnow.conduct.rules.rule import rules_of
from notnow.conduct.rules.smtp import connection, lasting, message, protection, replies, retrying, servers, silence

RULES = rules_of(connection, retrying, lasting, servers, message, silence, replies, protection)
