"""The limits of everything that a client can make grow. The reference page "Limits" is generated from this table."""

from __future__ import annotations

from typing import NamedTuple

# Every protocol.
EXCHANGES = 100_000  # of a journal without `journal_limit`
TEXT = 1_000  # characters of one request, reply or other text that a journal keeps
PIECES = 1_000  # of waiting input on a connection whose arrival is told apart
DECISIONS = 100_000  # calls to the counts that `explain` can play again
FACTS = 67_108_864  # bytes of what the clients said in them, as far as rules read it
KEPT_BODIES = 256 * 1024 * 1024  # bytes of accepted mail, or of files, without a quota

# SMTP.
SMTP_LINE = 12_288  # bytes; RFC 4954 §4: the longest line, of AUTH
SMTP_PATH = 2_048  # bytes; RFC 5321 §4.5.3.1.3: a path may have 256. The time to parse one grows with the square
SMTP_MESSAGE = 33_554_432  # bytes; announced by SIZE
MAIL_FIELD = 32_768  # characters of a header field that is read: 1,000 recipients. Again the square
MIME_FIELD = 4_096  # characters of a Content-Type and the like, which the parser reads several times
RECIPIENTS = 1_000  # of a message (RFC 5321 §4.5.3.1.8: no fewer than 100)
ENVELOPE = 1_000  # bytes that an accepted message counts besides its content, for its envelope and notes
FORWARDING = 67_108_864  # bytes of messages that wait for the server of `forward`

# FTP.
FTP_LINE = 4_096  # bytes
FTP_PATH = 4_096  # bytes of a path, as Linux has it (PATH_MAX)
FTP_WAITING = 65_536  # bytes of pending commands
ENTRIES = 10_000  # files and directories that clients create

# SMTP and FTP.
NONSENSE = 1_000  # unintelligible commands in a row

# HTTP.
HTTP_WAITING = 262_144  # pending bytes of a connection while other connections have their turn
BODY_WAITING = 262_144  # pending bytes of an HTTP/1.1 body that the app has not read
STREAM_WINDOW = 65_535  # pending bytes of an HTTP/2 body that the app has not read
WINDOW = 16_777_216  # pending bytes of all bodies of an HTTP/2 connection
STREAMS = 100  # at a time (RFC 9113 §6.5.2: no fewer)
H1_HEAD = 16_384  # bytes
H2_HEAD = 65_536  # bytes of a header list as RFC 9113 §6.5.2 counts them
CONTINUATIONS = 64  # frames of one header block; h2's
TABLE = 4_096  # bytes of the table of our header fields (RFC 9113 §6.5.2: the size at first)
TABLE_UPDATES = 2  # in a header block (RFC 7541 §4.2)
CALM = 5_000  # HTTP/2 frames without a request, beyond the allowance of answered requests and bodies
CANCELLED = 1_000  # HTTP/2 requests that the client cancels or opens beyond the cap (CVE-2023-44487)
ECHO = 8_388_608  # bytes of a body that the default app echoes


class Bound(NamedTuple):
    """A row: `what` can grow, to `most`, and what happens `then`."""

    protocol: str
    what: str
    most: int
    unit: str
    then: str

    @property
    def text(self) -> str:
        """The bound for readers: `1,000 recipients`, `32 MiB`."""
        if self.unit == "bytes" and self.most >= 2**20 and self.most % 2**20 == 0:
            return f"{self.most // 2**20} MiB"
        return f"{self.most:,} {self.unit}"


_PAUSE = "the fake reads no more until there is room; TCP slows the client down"

BOUNDS = (
    Bound("all", "the journal", EXCHANGES, "exchanges", "the oldest go, and `dropped` counts them; `journal_limit` sets another bound"),
    Bound("all", "a request, a reply or a path in the journal", TEXT, "characters", "the rest is left out, and its length noted"),
    Bound("all", "pieces of waiting input whose arrival is told apart", PIECES, "pieces", "later ones count as one"),
    Bound("all", "decisions that `explain` can explain", DECISIONS, "calls to the counts", "the oldest can no longer be explained"),
    Bound("all", "what clients said in them, as far as rules read it", FACTS, "bytes", "the same"),
    Bound("SMTP", "a command line", SMTP_LINE, "bytes", "`500 5.5.2` (RFC 5321 §4.5.3.1.9); the line is read to its end, and dropped"),
    Bound("SMTP", "an address with quotes, comments or a route, and its parameters", SMTP_PATH, "bytes", "`553 5.1.3`"),
    Bound("SMTP", "recipients of a message", RECIPIENTS, "recipients", "`452 4.5.3` (RFC 5321 §4.5.3.1.10); `limits.rcptmax` sets another bound"),
    Bound("SMTP", "a message", SMTP_MESSAGE, "bytes", "`552 5.3.4`; the rest is read, and dropped"),
    Bound("SMTP", "a header field of an accepted message, as `messages` reads it", MAIL_FIELD, "characters", f"the rest is left out ({MIME_FIELD:,} characters of `Content-Type` and the like); `envelope.content` has all"),
    Bound("SMTP", "accepted mail", KEPT_BODIES, "bytes", f"the oldest messages go; each counts {ENVELOPE:,} bytes more, and its recipients"),
    Bound("SMTP", "messages that wait for the server of `forward`", FORWARDING, "bytes", "later ones are not forwarded, and the journal says so"),
    Bound("SMTP, FTP", "commands in a row that are not understood", NONSENSE, "commands", "`421`, and the connection ends"),
    Bound("FTP", "a command line", FTP_LINE, "bytes", "`500`; the line is read to its end, and dropped"),
    Bound("FTP", "commands that wait for one under way", FTP_WAITING, "bytes", _PAUSE),
    Bound("FTP", "the bytes of all files", KEPT_BODIES, "bytes", "`552` (RFC 959 §4.2); `quota` sets another bound"),
    Bound("FTP", "the files of a directory that `files` names", KEPT_BODIES, "bytes", "an error before the start"),
    Bound("FTP", "files and directories in it", ENTRIES, "entries", "an error before the start"),
    Bound("FTP", "files and directories that clients make", ENTRIES, "entries", "`550` to MKD, STOR and the like"),
    Bound("FTP", "the path of a file or directory that a client makes", FTP_PATH, "bytes", "`550`"),
    Bound("HTTP/1.1", "the head of a request, or the trailer of one", H1_HEAD, "bytes", "`431`, and the connection ends"),
    Bound("HTTP/1.1", "a body that the app has not read", BODY_WAITING, "bytes", _PAUSE),
    Bound("HTTP/2", "the header list of a request", H2_HEAD, "bytes", "ENHANCE_YOUR_CALM (RFC 9113 §10.5.1)"),
    Bound("HTTP/2", "frames of one header block", CONTINUATIONS, "frames", "PROTOCOL_ERROR (RFC 9113 §10.5.1)"),
    Bound("HTTP/2", "the table that compresses the headers of answers", TABLE, "bytes", "a larger SETTINGS_HEADER_TABLE_SIZE is not used"),
    Bound("HTTP/2", "table size updates in a header block", TABLE_UPDATES, "updates", "COMPRESSION_ERROR (RFC 7541 §4.2)"),
    Bound("HTTP/2", "requests at a time", STREAMS, "streams", "REFUSED_STREAM; `max_streams` sets another bound"),
    Bound(
        "HTTP/2", "requests that the client cancels, or opens beyond that", CANCELLED, "requests",
        "ENHANCE_YOUR_CALM (RFC 9113 §10.5); every answered request and piece of a body raises the bound",
    ),
    Bound(
        "HTTP/2", "frames that ask for nothing: SETTINGS, PING, PRIORITY, empty DATA, unknown ones", CALM, "frames",
        "ENHANCE_YOUR_CALM (RFC 9113 §10.5); every answered request and piece of a body raises the bound",
    ),
    Bound("HTTP/2", "a body that the app has not read", STREAM_WINDOW, "bytes", "the stream's window is closed (RFC 9113 §5.2)"),
    Bound("HTTP/2", "all such bodies of a connection", WINDOW, "bytes", "the connection's window is closed"),
    Bound("HTTP", "what is not parsed yet", HTTP_WAITING, "bytes", _PAUSE),
    Bound("HTTP", "a body that the default app says again", ECHO, "bytes", "the answer has the first of them, and `body_bytes`, how many there were"),
)  # fmt: skip
