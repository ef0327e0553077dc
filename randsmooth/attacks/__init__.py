"""Adaptive attacks on smoothed classifiers, by which certificates can be tested."""

from randsmooth.attacks.attack import METHODS, AttackResult, attack
from randsmooth.attacks.library import as_art_classifier, as_foolbox_model
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.minimal import Boundary, CarliniWagner
from randsmooth.attacks.pgd import PGD, SPSA

__all__ = [
    "METHODS",
    "PGD",
    "SPSA",
    "AttackMethod",
    "AttackResult",
    "Boundary",
    "CarliniWagner",
    "as_art_classifier",
    "as_foolbox_model",
    "attack",
]
