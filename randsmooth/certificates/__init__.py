"""Certificates: the whole record of a certification run, and how counts become one."""

from randsmooth.certificates.from_counts import certify_counts
from randsmooth.certificates.record import Certificates

__all__ = ["Certificates", "certify_counts"]
