"""Training strategies: plain objects that are skorch callbacks, one paper a file."""

from randsmooth.training.adversarial import AdversarialTraining
from randsmooth.training.adversarial_distributional import AdversarialDistributionalTraining
from randsmooth.training.augmentation import GaussianAugmentation
from randsmooth.training.catrs import CATRS
from randsmooth.training.consistency import Consistency
from randsmooth.training.macer import MACER
from randsmooth.training.noisy import NoisyTraining
from randsmooth.training.schedules import SigmaWarmUp
from randsmooth.training.scoring import CertifiedAccuracyScoring
from randsmooth.training.smoothadv import SmoothAdv
from randsmooth.training.smoothmix import SmoothMix
from randsmooth.training.stability import StabilityTraining
from randsmooth.training.strategy import TrainingStrategy
from randsmooth.training.trades import TRADES

__all__ = [
    "CATRS",
    "MACER",
    "STRATEGIES",
    "TRADES",
    "AdversarialDistributionalTraining",
    "AdversarialTraining",
    "CertifiedAccuracyScoring",
    "Consistency",
    "GaussianAugmentation",
    "NoisyTraining",
    "SigmaWarmUp",
    "SmoothAdv",
    "SmoothMix",
    "StabilityTraining",
    "TrainingStrategy",
]

STRATEGIES: dict[str, type[TrainingStrategy]] = {
    "augmentation": GaussianAugmentation,
    "stability": StabilityTraining,
    "consistency": Consistency,
    "macer": MACER,
    "smoothadv": SmoothAdv,
    "smoothmix": SmoothMix,
    "catrs": CATRS,
    "adversarial": AdversarialTraining,
    "trades": TRADES,
    "adt": AdversarialDistributionalTraining,
}
"""The strategies that `SmoothedClassifier` knows by name."""
