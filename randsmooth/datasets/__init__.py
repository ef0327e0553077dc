"""Loaders of the data sets that the published tables use, in their original formats."""

from randsmooth.datasets.cifar10 import fetch_cifar10
from randsmooth.datasets.image_folder import ImageFolder, load_image_folder
from randsmooth.datasets.mnist import fetch_mnist, read_idx

__all__ = ["ImageFolder", "fetch_cifar10", "fetch_mnist", "load_image_folder", "read_idx"]
