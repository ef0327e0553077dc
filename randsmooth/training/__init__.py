"""Training strategies: plain objects that are skorch callbacks, one paper a file."""

from randsmooth.training.augmentation import GaussianAugmentation
from randsmooth.training.noisy import NoisyTraining
from randsmooth.training.stability import StabilityTraining
from randsmooth.training.strategy import TrainingStrategy

__all__ = [
    "STRATEGIES",
    "GaussianAugmentation",
    "NoisyTraining",
    "StabilityTraining",
    "TrainingStrategy",
]

STRATEGIES: dict[str, type[TrainingStrategy]] = {
    "augmentation": GaussianAugmentation,
    "stability": StabilityTraining,
}
