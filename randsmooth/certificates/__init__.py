"""Certificates: the whole record of a certification run, and how counts become one."""

from randsmooth.certificates.confidence import ConfidenceCertificates
from randsmooth.certificates.from_counts import certify_counts
from randsmooth.certificates.from_scores import certify_scores
from randsmooth.certificates.record import Certificates
from randsmooth.certificates.top_k import TopKCertificates, certify_top_k_counts

__all__ = [
    "Certificates",
    "ConfidenceCertificates",
    "TopKCertificates",
    "certify_counts",
    "certify_scores",
    "certify_top_k_counts",
]
