"""Denoised smoothing: certificates for a classifier that never saw noise, behind a denoiser."""

from randsmooth.denoised.classifier import DenoisedClassifier
from randsmooth.denoised.diffusion import DiffusionDenoiser

__all__ = ["DenoisedClassifier", "DiffusionDenoiser"]
