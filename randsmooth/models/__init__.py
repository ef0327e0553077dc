"""The networks of the published tables, as plain torch modules that return logits.

Every class takes plain values and keeps no state but its weights, so that it can be handed to
skorch, or to `SmoothedClassifier`, as a class or as an instance. Initial weights come from
torch's global generator: call `torch.manual_seed` first to repeat them.
"""

from randsmooth.models.additive_noise import CIFARNet, MNISTNet
from randsmooth.models.complement import ComplementEncoding
from randsmooth.models.denoiser import DenseDenoiser, DnCNN
from randsmooth.models.layers import Normalize, SameMaxPool2d
from randsmooth.models.lenet import LeNet
from randsmooth.models.resnet import BasicBlock, Bottleneck, ResNet20, ResNet50, ResNet110

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "CIFARNet",
    "ComplementEncoding",
    "DenseDenoiser",
    "DnCNN",
    "LeNet",
    "MNISTNet",
    "Normalize",
    "ResNet20",
    "ResNet50",
    "ResNet110",
    "SameMaxPool2d",
]
