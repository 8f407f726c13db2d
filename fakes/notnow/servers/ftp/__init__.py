"""FTP (RFC 959), on pyftpdlib."""

import warnings

with warnings.catch_warnings():  # it needs asyncore, whose deprecation warning is an error in many test suites
    warnings.simplefilter("ignore", DeprecationWarning)
    import pyftpdlib.handlers  # noqa: F401

from notnow.servers.ftp.fake import FakeFTP
from notnow.servers.ftp.files import Files

__all__ = ["FakeFTP", "Files"]
