"""Adaptive attacks on smoothed classifiers, by which certificates can be tested."""

from randsmooth.attacks.arguments import METHODS
from randsmooth.attacks.attack import attack
from randsmooth.attacks.curve import RobustAccuracyCurve
from randsmooth.attacks.library import as_art_classifier, as_foolbox_model
from randsmooth.attacks.masking import MaskingLine, MaskingReport, gradient_masking_report
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.minimal import Boundary, CarliniWagner
from randsmooth.attacks.pgd import PGD, SPSA
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.robust_accuracy import robust_accuracy_curve
from randsmooth.attacks.square import Square
from randsmooth.attacks.transfer import Transfer, transfer

__all__ = [
    "METHODS",
    "PGD",
    "SPSA",
    "AttackMethod",
    "AttackResult",
    "Boundary",
    "CarliniWagner",
    "MaskingLine",
    "MaskingReport",
    "RobustAccuracyCurve",
    "Square",
    "Transfer",
    "as_art_classifier",
    "as_foolbox_model",
    "attack",
    "gradient_masking_report",
    "robust_accuracy_curve",
    "transfer",
]
