"""Lines of HTTP at a server of another protocol.

A web page can have a browser send a request to any port, with commands of SMTP or FTP in its body. A server that answers its
first line with an error, and goes on, carries these commands out. Servers end the connection instead: Postfix
(smtpd_forbidden_commands), vsftpd, ProFTPD.
"""

from __future__ import annotations

import re

# RFC 9110 §9.3, RFC 5789, and the preface of HTTP/2 (RFC 9113 §3.4). The target may be missing, as in a probe by hand.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE"})
_VERSION = re.compile(r" HTTP/[0-9](\.[0-9])?\s*$", re.IGNORECASE)
_HEADER = re.compile(r"[!-9;-~]+:")  # RFC 5322 §2.2; RFC 9112 §5.1 has no space before the colon, either


def is_request_line(line: str) -> bool:
    """True for the first line of a request (RFC 9112 §3), in any case, as Postfix looks for it. No command of SMTP or FTP has the name of a method."""
    return line.partition(" ")[0].upper() in _METHODS or _VERSION.search(line) is not None


def is_header(line: str) -> bool:
    """True for a field of a header, of HTTP or of mail: in SMTP, commands have no colon in their first word."""
    return _HEADER.match(line) is not None
