"""FTP (RFC 959), on pyftpdlib."""

from notnow.servers.ftp.fake import FakeFTP
from notnow.servers.ftp.files import Files

__all__ = ["FakeFTP", "Files"]
