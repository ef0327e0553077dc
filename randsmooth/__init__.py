"""Classifiers whose robustness is proved: randomized smoothing as a scikit-learn estimator."""

from randsmooth.certificates import (
    Certificates,
    ConfidenceCertificates,
    certify_counts,
    certify_scores,
)
from randsmooth.classifier import SmoothedClassifier
from randsmooth.confidence_display import CertifiedConfidenceDisplay
from randsmooth.confidence_logs import ConfidenceLog, read_confidence_log
from randsmooth.denoised import DenoisedClassifier, DiffusionDenoiser
from randsmooth.display import CertifiedAccuracyDisplay
from randsmooth.draws_display import DrawsDisplay
from randsmooth.logs import CertificationLog, check_log, read_log
from randsmooth.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_scorer,
)
from randsmooth.planning import CostEstimate, estimate_cost
from randsmooth.robust_accuracy_display import RobustAccuracyDisplay
from randsmooth.store import VoteStore
from randsmooth.two_stage import TwoStage

__version__ = "0.1.0"

__all__ = [
    "Certificates",
    "CertificationLog",
    "CertifiedAccuracyDisplay",
    "CertifiedConfidenceDisplay",
    "ConfidenceCertificates",
    "ConfidenceLog",
    "CostEstimate",
    "DenoisedClassifier",
    "DiffusionDenoiser",
    "DrawsDisplay",
    "RobustAccuracyDisplay",
    "SmoothedClassifier",
    "TwoStage",
    "VoteStore",
    "__version__",
    "average_certified_radius",
    "certified_accuracy",
    "certified_accuracy_scorer",
    "certify_counts",
    "certify_scores",
    "check_log",
    "estimate_cost",
    "read_confidence_log",
    "read_log",
]
