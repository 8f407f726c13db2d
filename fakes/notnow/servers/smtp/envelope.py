"""The state of a mail transaction: aiosmtpd's envelope, and parameters and chunks besides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiosmtpd.smtp import Envelope

if TYPE_CHECKING:
    from notnow.journal import Exchange
    from notnow.servers.smtp.body import Chunks
    from notnow.servers.smtp.parameters import Parameters


class Transaction(Envelope):
    """An envelope that is being filled. `mail_from` is None before MAIL, and empty for the null sender.

    `recipient_parameters` has an entry for each of `rcpt_tos`. `chunks` holds the message so far of BDAT, None without it.
    `begun` is the exchange with which the message began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameters: Parameters = {}
        self.recipient_parameters: list[Parameters] = []
        self.chunks: Chunks | None = None
        self.begun: Exchange | None = None
