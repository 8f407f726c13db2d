"""What the rules about certificates of all protocols share."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, not_exercised
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.journal import TLS, CertificateRejected

_DEFECTS = {
    "untrusted": "is of an unknown CA",
    "expired": "has expired",
    "incomplete": "came without its intermediate",
    "name": "is for another name",
}


def faults(tls: TLS) -> str:
    """Why a client must not trust the certificate, in words that follow "a certificate that"."""
    return " and ".join(_DEFECTS[defect] for defect in tls.defects)


def without_occasion(run: Run) -> Finding:
    """The finding where no client had to reject a certificate: one that rejects a good one has not been told of its CA."""
    for connection in run.once(occasions).failed:
        good = connection.tls is None or not connection.tls.defects
        if good and isinstance(connection.failure, CertificateRejected):
            return not_exercised(
                "it rejected a certificate that the fake's CA has signed: it was not told to trust {ca_file}"
            )
    return NOT_EXERCISED
