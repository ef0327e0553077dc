"""
Certify a classifier that never saw noise
=========================================

Noise in front of a classifier that was trained on clean images leaves little to certify. A denoiser
between the two changes that, and the classifier is not touched.
"""

# %%
# A classifier from somewhere else
# --------------------------------
#
# It was trained on clean digits and is right on most of them. Nothing below changes its weights.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from randsmooth import CertifiedAccuracyDisplay, SmoothedClassifier
from randsmooth.denoised import DenoisedClassifier
from randsmooth.models.denoiser import DnCNN
from randsmooth.noise import Gaussian
from randsmooth.training import GaussianAugmentation


class DigitNet(nn.Sequential):
    """Two convolutions and one linear layer, on images of shape (1, 8, 8)."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )


torch.set_num_threads(1)
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = (X / 16).reshape(-1, 1, 8, 8).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=200, random_state=0)
settings = {
    "optimizer": torch.optim.Adam,
    "lr": 1e-3,
    "batch_size": 64,
    "train_split": None,
    "iterator_train__shuffle": True,
    "verbose": 0,
}
base = NeuralNetClassifier(DigitNet, criterion=nn.CrossEntropyLoss, max_epochs=30, **settings)
base.fit(X_train, y_train)
print(f"accuracy on clean images: {base.score(X_test, y_test):.3f}")

# %%
# A denoiser for the noise
# ------------------------
#
# A regression of clean images on noisy ones, which needs neither labels nor the classifier.

sigma = 0.5
noisy = GaussianAugmentation(noise=Gaussian(sigma), random_state=0)
denoiser = NeuralNetRegressor(
    DnCNN, module__width=16, module__depth=4, max_epochs=15, callbacks=[noisy], **settings
)
denoiser.fit(X_train, X_train)

# %%
# Together they are one network. Noise is added in front of it.

behind = DenoisedClassifier(denoiser, base)
clean = torch.from_numpy(X_test[:6])
noise = Gaussian(sigma).draw(6, (1, 8, 8), np.random.default_rng(0))
noisy_images = clean + torch.from_numpy(noise)
with torch.inference_mode():
    stages = [clean, noisy_images, behind.denoised(noisy_images)]

fig, axes = plt.subplots(3, 6, figsize=(7, 3.6), layout="constrained")
for row, title, images in zip(axes, ["clean", "noisy", "denoised"], stages, strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)

# %%
# Tune it for the classifier
# --------------------------
#
# The denoiser can also be trained through the classifier, so that the answer on the noisy image is
# the one on the clean image. The targets are the classifier's own answers, and its weights stay
# fixed: a `DenoisedClassifier` lets no gradient into them.

weights = [weight.clone() for weight in base.module_.parameters()]
tuned = NeuralNetClassifier(
    DenoisedClassifier(DnCNN(1, 16, 4), base),
    criterion=nn.CrossEntropyLoss,
    max_epochs=10,
    callbacks=[noisy],
    **settings,
).initialize()
tuned.module_.denoiser.load_state_dict(denoiser.module_.state_dict())
tuned.partial_fit(X_train, base.predict(X_train))
print("base unchanged:", all(map(torch.equal, weights, base.module_.parameters())))

# %%
# What is certified
# -----------------
#
# ``FrozenEstimator`` says that nothing is to be trained any more. For comparison, the same network
# trained on noisy images from the start: it needs labels, time, and leave to be replaced.

classifiers = {
    "bare": FrozenEstimator(base),
    "behind a denoiser": FrozenEstimator(behind),
    "behind a denoiser tuned for it": FrozenEstimator(tuned),
    "trained with noise": DigitNet,
}
records = {}
for name, classifier in classifiers.items():
    clf = SmoothedClassifier(
        classifier, sigma=sigma, training="augmentation", n_estimation=400, random_state=0
    )
    records[name] = clf.fit(X_train, y_train).certificates(X_test)
    print(f"{name:32s} {records[name].certified_accuracy(y_test, [0, 0.25, 0.5])}")

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
CertifiedAccuracyDisplay.from_certificates(records, y_test, show_band=False, ax=ax)
ax.set_title("One classifier, bare and behind a denoiser")
