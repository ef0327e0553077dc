"""Adaptive attacks on smoothed classifiers, by which certificates can be tested."""

from randsmooth.attacks.attack import METHODS, AttackResult, attack
from randsmooth.attacks.curve import RobustAccuracyCurve, robust_accuracy_curve
from randsmooth.attacks.library import as_art_classifier, as_foolbox_model
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.minimal import Boundary, CarliniWagner
from randsmooth.attacks.pgd import PGD, SPSA
from randsmooth.attacks.transfer import Transfer, transfer

__all__ = [
    "METHODS",
    "PGD",
    "SPSA",
    "AttackMethod",
    "AttackResult",
    "Boundary",
    "CarliniWagner",
    "RobustAccuracyCurve",
    "Transfer",
    "as_art_classifier",
    "as_foolbox_model",
    "attack",
    "robust_accuracy_curve",
    "transfer",
]
